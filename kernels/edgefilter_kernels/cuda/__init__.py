"""CUDA versions of the kernels: the same names and signatures, with arrays on the GPU.

They can be imported without CuPy and without a GPU; only the first launch needs them.
"""
