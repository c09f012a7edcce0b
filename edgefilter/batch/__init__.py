"""Reduction of recordings: for the command line, and for notebooks."""
