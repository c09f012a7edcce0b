"""Vector code: eight float32 at a time, and bit masks of 64 channels."""
