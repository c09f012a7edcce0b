"""Readers of recorded formats."""
