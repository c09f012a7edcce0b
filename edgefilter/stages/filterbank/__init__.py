"""Unpack, channelise, detect and integrate."""
