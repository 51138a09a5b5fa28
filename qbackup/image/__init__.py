"""Files inside disk images, read without mounting anything.

An image is any seekable binary stream with an ext4 file system, bare (``private.img``) or in a
partition (``root.img``). What is in it was written by a qube, so it is as hostile as a backup
can be: every number is checked before it is used, every list has a bound, and every mistake is
a `QBackupError`. Nothing is ever written into an image.

The modules that turn bytes into values (`superblock`, `inode`, `blocks`, `folder`, `journal`,
`partitions`, `kinds`, `fstab`) do no reading but of what a device gives; `reader` brings them the
bytes, `tree` gives paths to what it finds, and `copying` writes it out through `qbackup.restore`.
Of a disk, `disk` has the partitions, `choosing` finds the one with the system, `mounts` puts the
others into their places, and `mounted` knows which file system is where.
"""

from __future__ import annotations

from qbackup.image.open import open_image
from qbackup.image.tree import Image, Node

__all__ = ["Image", "Node", "open_image"]
