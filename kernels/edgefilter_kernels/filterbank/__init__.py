"""Unpack, channelise and integrate."""
