"""Live inputs: the ZeroMQ wire format, its sender, its connections and keys."""
