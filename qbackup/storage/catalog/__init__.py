"""Lists of a backup's files: complete from a seekable source, one by one from a pipe.

All catalogs have the same interface, so higher floors need not know which one they use.
"""

from __future__ import annotations

from qbackup.storage.catalog.common import Catalog
from qbackup.storage.catalog.copies import CopiesCatalog
from qbackup.storage.catalog.pipe import PipeCatalog
from qbackup.storage.catalog.salvage import SalvageCatalog
from qbackup.storage.catalog.seekable import SeekableCatalog

__all__ = ["Catalog", "CopiesCatalog", "PipeCatalog", "SalvageCatalog", "SeekableCatalog"]
