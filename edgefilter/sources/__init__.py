"""Sources of samples: recorded files, live streams and simulated telescopes.

============== =====================================================================================
room           to add something
============== =====================================================================================
``files/``     a file format: a module beside the others with a
               :class:`~edgefilter.sources.base.FileFormat`, registered in ``pyproject.toml``;
               a keyword of PSRFITS: :mod:`~.files.psrfits`
``live/``      a packet format or a transport: see :mod:`~.live`
``simulated/`` a kind of interference or of telescope: :mod:`~.simulated.base`
============== =====================================================================================
"""
