"""What runs kernels: threads of the processor, or a GPU."""
