"""qbackup restores Qubes OS backups on any machine: no Qubes, no scrypt program, no root.

::

    import qbackup

    with qbackup.open("qubes-2024-09-17T101112", passphrase="...") as backup:
        for qube in backup.qubes:
            print(qube.name, qube.klass)
        with backup.open("personal/private.img") as image:
            image.read(512)
        backup.restore("out", ["personal"])

Promises of the names below: no byte of plaintext leaves this package before the MAC over it was
checked; if a call returns without raising, everything that was asked for is there and whole; every
error is a `QBackupError`.
"""

# no `from __future__` here: `python -m qbackup` would load one of the current folder (`__main__`)

TYPE_CHECKING = False  # type checkers know the name; loading `typing` for it takes time
if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from concurrent.futures import Executor
    from typing import Any, BinaryIO

    from qbackup.archive.archive import BackupArchive
    from qbackup.archive.backends import Backends
    from qbackup.archive.chunk import EncryptedChunk
    from qbackup.archive.estimate import Cost
    from qbackup.archive.file import BackupFile
    from qbackup.archive.listing import FileListing
    from qbackup.archive.passphrase import Passphrase
    from qbackup.archive.qube import Qube
    from qbackup.archive.unlock.id_search import IdSearchProgress
    from qbackup.base.errors import (
        AlreadyPassed,
        ArchiveDamaged,
        BackupIdUnknown,
        ChunkDamaged,
        ChunkMissing,
        ConnectionBroken,
        Damaged,
        FolderArchive,
        HeaderAltered,
        Incomplete,
        Interrupted,
        LimitExceeded,
        MachineError,
        NotABackup,
        NotEnoughMemory,
        NotInBackup,
        NotInImage,
        PartitionUnreadable,
        QBackupError,
        SymbolicLink,
        Unlockable,
        Unreadable,
        UnsupportedFormat,
        UsageError,
        WrongPassphrase,
    )
    from qbackup.base.events import Extent
    from qbackup.base.limits import Limits
    from qbackup.base.report import (
        ByteRange,
        FileResult,
        LostPlace,
        Progress,
        Report,
        UnprovenFiles,
    )
    from qbackup.content.inner import Entry
    from qbackup.crypto.scrypt_format import ScryptParameters
    from qbackup.formats.header import BackupHeader
    from qbackup.formats.metadata.settings import Device, QubeSettings
    from qbackup.image.copying import CopyReport
    from qbackup.image.disk import ImagePartition
    from qbackup.image.image import Image
    from qbackup.image.node import Node
    from qbackup.image.open import open_image

__version__ = "0.1.0"

# modules with the public names, the ones that load fastest first
_MODULES = (
    "base.errors",
    "base.limits",
    "formats.header",
    "base.report",
    "base.events",
    "crypto.scrypt_format",
    "content.inner",
    "archive.chunk",
    "archive.file",
    "formats.metadata.settings",
    "archive.listing",
    "archive.qube",
    "archive.archive",
    "archive.unlock.id_search",
    "archive.backends",
    "archive.estimate",
    "image.node",
    "image.open",
    "image.copying",
    "image.disk",
)

__all__ = [
    "AlreadyPassed",
    "ArchiveDamaged",
    "Backends",
    "BackupArchive",
    "BackupFile",
    "BackupHeader",
    "BackupIdUnknown",
    "ByteRange",
    "ChunkDamaged",
    "ChunkMissing",
    "ConnectionBroken",
    "CopyReport",
    "Cost",
    "Damaged",
    "Device",
    "EncryptedChunk",
    "Entry",
    "Extent",
    "FileListing",
    "FileResult",
    "FolderArchive",
    "HeaderAltered",
    "IdSearchProgress",
    "Image",
    "ImagePartition",
    "Incomplete",
    "Interrupted",
    "LimitExceeded",
    "Limits",
    "LostPlace",
    "MachineError",
    "Node",
    "NotABackup",
    "NotEnoughMemory",
    "NotInBackup",
    "NotInImage",
    "PartitionUnreadable",
    "Progress",
    "QBackupError",
    "Qube",
    "QubeSettings",
    "Report",
    "ScryptParameters",
    "SymbolicLink",
    "Unlockable",
    "UnprovenFiles",
    "Unreadable",
    "UnsupportedFormat",
    "UsageError",
    "WrongPassphrase",
    "__version__",
    "open",
    "open_image",
]


def open(
    source: "str | os.PathLike[str] | BinaryIO",
    *,
    passphrase: "Passphrase | None" = None,
    limits: "Limits | None" = None,
    jobs: int | None = None,
    memory: int | None = None,
    executor: "Executor | None" = None,
    executor_jobs: int | None = None,
    compression_filter: str | None = None,
    hmac_algorithm: str | None = None,
    salvage: bool = False,
    also: "Sequence[str | os.PathLike[str] | BinaryIO]" = (),
    backup_id: str | None = None,
) -> "BackupArchive":
    """Opens a backup.

    Args:
        source: a path, a URL, or a binary file object, seekable or not.
        passphrase: str, bytes, or a callable that is called once. The backup is then unlocked at
            once; without a passphrase nothing is derived until `BackupArchive.unlock`.
        limits: bounds on untrusted input.
        jobs: scrypt lanes derived side by side; default: the number of cores.
        memory: budget for derivations and held chunks, in bytes; default: half of RAM.
        executor: any `concurrent.futures.Executor` that derives keys in addition, for example on
            other machines. Its workers must have qbackup and llvmlite installed. The executor gets
            neither the passphrase nor a key nor any data, see docs/security.md. The archive does
            not shut it down.
        executor_jobs: derivations that the executor gets at once; default: its workers and some
            more, or 16 where the number of its workers is unknown.
        compression_filter: filter instead of the header's; ``none`` for no compression. A name
            that is not built in is a program of this machine, run as ``NAME -d``.
        hmac_algorithm: for formats 2 and 3, the only digest that may prove the header, by its
            name in openssl; default: each digest that is no weaker than SHA-1. Naming a weaker
            digest here is the only way to allow it.
        salvage: go on where the header can't be believed or the archive is broken; see
            docs/security.md for the promises that are weaker then. `BackupArchive.salvaged` lists
            everything that was passed over; if there is anything, `restore` and `verify` raise at
            the end.
        also: other copies of the same backup, each damaged at other places perhaps. Each chunk is
            taken from the first copy in which it can be believed, or put together from several.
        backup_id: with salvage, the id of a backup of format 4 whose header is lost. It counts
            only if a chunk proves it.

    Raises:
        NotABackup: there is no Qubes backup here.
        UnsupportedFormat: the backup's version can't be read.
        UsageError: the source is no path and no binary file, the passphrase is no str or bytes,
            salvage or copies from a pipe, a copy of another backup, an id without salvage, or a
            number that makes no sense.
        Unlockable: with a passphrase, see `BackupArchive.unlock`.
    """
    from qbackup.archive.archive import BackupArchive

    return BackupArchive(
        source,
        passphrase=passphrase,
        limits=limits,
        jobs=jobs,
        memory=memory,
        executor=executor,
        executor_jobs=executor_jobs,
        compression_filter=compression_filter,
        hmac_algorithm=hmac_algorithm,
        salvage=salvage,
        also=also,
        backup_id=backup_id,
    )


def __getattr__(name: str) -> "Any":
    """Loads a public name when first used, so that importing qbackup stays fast."""
    if name in __all__:
        import importlib

        for module in _MODULES:
            value = getattr(importlib.import_module(f"qbackup.{module}"), name, None)
            if value is not None:
                return value
    raise AttributeError(f"module 'qbackup' has no attribute {name!r}")
