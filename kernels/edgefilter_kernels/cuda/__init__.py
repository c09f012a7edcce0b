"""CUDA twins of the kernels: the same names and signatures, arrays in and out on the device.

Importing them needs neither CuPy nor a card; the first launch does.
"""
