"""One file per mail system. `base` is the wall; `network` and `http` are the only ways out."""
