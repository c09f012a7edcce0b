"""Compute backends, which run kernels: threads of the processor, or a GPU."""
