"""Formats of other tools: VOTable, FITS, SIGPROC, VOEvent."""
