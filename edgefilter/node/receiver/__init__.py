"""The receiver: frames from the network into the ring."""
