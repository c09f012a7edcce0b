"""CUDA twins: find radio-frequency interference."""
