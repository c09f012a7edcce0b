"""CUDA versions of the kernels that find radio-frequency interference."""
