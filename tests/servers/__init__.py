"""Real object stores on loopback, started from the packages that carry them."""
