"""CUDA versions: unpack, channelise and integrate."""
