"""CUDA versions of the kernels that search for dispersed pulses."""
