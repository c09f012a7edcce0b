"""Vectors of eight floats, and masks of 64 bits."""
