"""Makes `tests/vectors/kernel.img.z`: a file system that Linux itself has written to, by root.

    python -m tests.make_kernel_image

mkfs.ext4 and e2fsck write some things otherwise than the kernel does: the index of a large
folder, say, whose first block still ends as it did when it held names. So this one is mounted,
filled, emptied in part, and copied while it is in use, its last changes in the journal only.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import zlib
from pathlib import Path

from tests.maker import make_ext4

PATH = Path(__file__).parent / "vectors" / "kernel.img.z"
MIB = 1 << 20
COUNT = 300


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


def main() -> None:
    """Needs a loop device."""
    with tempfile.TemporaryDirectory() as folder:
        image, top = Path(folder) / "image", Path(folder) / "top"
        top.mkdir()
        make_ext4(image, 4 * MIB, None, ["-b", "1024", "-N", "512", "-J", "size=1"])
        subprocess.run(["mount", "-o", "loop", str(image), str(top)], check=True)
        try:
            _fill(top)
            data = image.read_bytes()
        finally:
            subprocess.run(["umount", str(top)], check=True)
    PATH.write_bytes(zlib.compress(data, 9))


if __name__ == "__main__":
    main()
