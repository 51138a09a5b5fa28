"""Hashes an image without writing it: `python hash_image.py BACKUP PASSPHRASE_FILE QUBE/FILE`.

The stream gives only what has been verified, and ends only when all of it has been.
"""

import hashlib
import sys
from pathlib import Path

import qbackup


def main(backup_path: str, passphrase_path: str, name: str) -> None:
    """Prints SHA-256, length, and how much of it is data."""
    passphrase = Path(passphrase_path).read_bytes().rstrip(b"\r\n")
    with qbackup.open(backup_path, passphrase=passphrase) as backup:
        digest = hashlib.sha256()
        with backup.open(name) as image:
            while piece := image.read(1 << 20):
                digest.update(piece)
            size = image.tell()
        data = sum(e.length for e in backup.file(name).extents() if e.data is not None)
    print(digest.hexdigest(), size, "bytes, of which", data, "are data")


if __name__ == "__main__":
    main(*sys.argv[1:])
