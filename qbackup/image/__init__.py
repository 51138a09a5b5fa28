"""Files inside disk images, read without mounting anything.

An image is any seekable binary stream with a file system, bare (``private.img``) or in a partition
(``root.img``). A qube wrote its content, which may be as hostile as a backup: every number is
checked before use, every list has a bound, and every mistake is a `QBackupError`. Nothing is ever
written into an image.

Bytes become values in `partitions`, `kinds`, `fstab`, and in `ext4/`, a file system behind the
interface of `filesystem`. `tree` gives paths to the files, `walk` goes through folders, `copying`
writes files out through `qbackup.restore`, and `Image` in `image` offers all of that to callers.
For a disk, `disk` has the partitions, `choosing` finds the one with the system, `mount_plan` reads
the mounts, `mounting` puts them into the tree, and `mount_table` keeps the file systems by place.
"""

from __future__ import annotations

from qbackup.image.image import Image
from qbackup.image.node import Node
from qbackup.image.open import open_image

__all__ = ["Image", "Node", "open_image"]
