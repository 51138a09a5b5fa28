"""Which files a backup holds: all at once from a seekable source, one by one from a pipe.

Both answer in the same words, so nothing above has to ask which one it is.
"""

from __future__ import annotations

from qbackup.catalog.common import Catalog
from qbackup.catalog.indexed import SeekableCatalog
from qbackup.catalog.passing import PipeCatalog
from qbackup.catalog.salvaged import SalvageCatalog

__all__ = ["Catalog", "PipeCatalog", "SalvageCatalog", "SeekableCatalog"]
