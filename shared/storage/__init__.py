"""Where things are kept: `base` is the wall, the other modules are Azure behind it."""
