"""Where products end: one small interface and its implementations."""
