"""Other tools' formats: VOTable, FITS, SIGPROC, VOEvent."""
