"""The version of the code: part of every product's provenance."""

__version__ = "0.1.0"
