"""Flag radio-frequency interference."""
