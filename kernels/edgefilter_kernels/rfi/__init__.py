"""Find radio-frequency interference."""
