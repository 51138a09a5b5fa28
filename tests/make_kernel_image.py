"""Makes `tests/vectors/kernel*.img.z`: file systems that Linux itself has written to, by root.

    python -m tests.make_kernel_image [NAME…]

mkfs.ext4 and e2fsck write some things otherwise than the kernel does, e.g. the index of a large
folder, whose first block still ends as it did when it held names. So these are mounted, filled,
emptied in part, and copied while they are in use, their last changes in the journal only.
`kernel.img.z` has the checksums of today, `kernel-old.img.z` those of before 2012: of R2 and R3.
`kernel-old-unmounted.img.z` was unmounted first, so its block groups are read from their own place.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

from tests.maker import make_ext4

VECTORS = Path(__file__).parent / "vectors"
PATH = VECTORS / "kernel.img.z"
OLD_PATH = VECTORS / "kernel-old.img.z"
OLD_UNMOUNTED_PATH = VECTORS / "kernel-old-unmounted.img.z"
MIB = 1 << 20
COUNT = 300
_OLD = ("-N", "512", "-g", "1024", "-O", "^metadata_csum,^64bit,^flex_bg,uninit_bg")
#: Path → options of mkfs.ext4 and of mount.
KINDS = {
    PATH: (("-N", "512"), "loop"),
    OLD_PATH: (_OLD, "loop,journal_checksum"),
    OLD_UNMOUNTED_PATH: (_OLD, "loop,journal_checksum"),
}


def name_of(number: int) -> str:
    """Of a file in `/many`."""
    return f"{number:03}-{'x' * (number % 50)}"


def is_left(number: int) -> bool:
    """Whether a file was not removed again."""
    return number % 3 != 0


def _fill(top: Path) -> None:
    (top / "many").mkdir()
    for number in range(COUNT):
        (top / "many" / name_of(number)).write_bytes(b"%d" % number)
    for number in range(COUNT):
        if not is_left(number):
            (top / "many" / name_of(number)).unlink()
    os.sync()
    (top / "late").write_bytes(b"in the journal")
    (top / "many" / name_of(1)).rename(top / "many/renamed")
    with (top / "late").open("rb") as file:
        os.fsync(file.fileno())


def _make(path: Path) -> None:
    features, mount_options = KINDS[path]
    with tempfile.TemporaryDirectory() as folder:
        image, top = Path(folder) / "image", Path(folder) / "top"
        top.mkdir()
        make_ext4(image, 4 * MIB, None, ["-b", "1024", "-J", "size=1", *features])
        subprocess.run(["mount", "-o", mount_options, str(image), str(top)], check=True)
        try:
            _fill(top)
            data = image.read_bytes()
        finally:
            subprocess.run(["umount", str(top)], check=True)
        if path == OLD_UNMOUNTED_PATH:
            data = image.read_bytes()
    path.write_bytes(zlib.compress(data, 9))


def main() -> None:
    """Makes all, or those of the given names. Needs a loop device."""
    for path in KINDS:
        if path.name in sys.argv[1:] or len(sys.argv) == 1:
            _make(path)


if __name__ == "__main__":
    main()
