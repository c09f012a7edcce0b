"""Figures of arrays and tables."""
