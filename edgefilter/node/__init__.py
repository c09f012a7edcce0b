"""The node: everything that knows sockets, threads and signals."""
