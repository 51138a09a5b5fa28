"""Which files a backup holds: all at once from a seekable source, one by one from a pipe.

Both answer in the same words, so nothing above has to ask which one it is.
"""

from __future__ import annotations

from qbackup.storage.catalog.common import Catalog
from qbackup.storage.catalog.pipe import PipeCatalog
from qbackup.storage.catalog.salvage import SalvageCatalog
from qbackup.storage.catalog.seekable import SeekableCatalog

__all__ = ["Catalog", "PipeCatalog", "SalvageCatalog", "SeekableCatalog"]
