"""What the world can trigger: HTTP routes, queue jobs and timers. Thin: parse, one call, answer."""
