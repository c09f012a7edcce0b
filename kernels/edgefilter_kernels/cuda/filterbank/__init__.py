"""CUDA twins: unpack, channelise and integrate."""
