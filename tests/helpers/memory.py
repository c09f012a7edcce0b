"""A folder in memory, because spools, stores and servers synchronise every file to the disk."""

import os
from pathlib import Path

_SHM = Path("/dev/shm")
MEMORY = _SHM if _SHM.is_dir() and os.access(_SHM, os.W_OK) else None
"""Parent for temporary folders; None, the default place, if this machine has no such folder."""
