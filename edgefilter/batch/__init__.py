"""Reduce recordings: from the command line and in a notebook."""
