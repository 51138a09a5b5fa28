"""Makes the backups in `tests/vectors/gaps` again: `python -m tests.make_gap_vectors [NAME…]`.

Each holds one image, of `tests.support.deflatestreams`, in several chunks. A test damages
some of them. They are as short as the longest block of their filter lets them be.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.maker import BackupMaker
from tests.support.deflatestreams import files, mixed

FOLDER = Path(__file__).parent / "vectors/gaps"
KIB = 1024
PASSPHRASE = "behind a gap"


@dataclass(frozen=True)
class Recipe:
    """A backup with one image.

    Args:
        command: the filter; None for none.
        size: length of the image, in bytes.
        chunk: length of a chunk.
        qubes_writer: Qubes' own writer stores the image.
        content: makes the image.
    """

    command: str | None
    size: int
    chunk: int
    qubes_writer: bool = False
    content: Callable[[int], bytes] = mixed

    @property
    def image(self) -> bytes:
        return self.content(self.size)


RECIPES = {
    "gzip": Recipe("gzip", 1_700 * KIB, 128 * KIB),
    "pigz": Recipe("pigz", 1_500 * KIB, 128 * KIB, qubes_writer=True),
    "bzip2": Recipe("bzip2 -1", 1_000 * KIB, 64 * KIB),
    "pbzip2": Recipe("pbzip2 -1", 1_000 * KIB, 64 * KIB),
    "xz-blocks": Recipe("xz -T2 --block-size=65536", 600 * KIB, 32 * KIB),
    "xz-one-block": Recipe("xz", 100 * KIB, 8 * KIB),
    "zstd": Recipe("zstd", 100 * KIB, 8 * KIB),
    "lzma": Recipe("lzma", 100 * KIB, 8 * KIB),
    "raw": Recipe(None, 300 * KIB, 64 * KIB),
    "gzip-files": Recipe("gzip", 1_600 * KIB, 300 * KIB, content=files),
}


def make(name: str, recipe: Recipe) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = BackupMaker(
            Path(folder),
            passphrase=PASSPHRASE,
            compression_filter=recipe.command,
            chunk_size=recipe.chunk,
        )
        writer = ["private.img"] if recipe.qubes_writer else []
        made.add_qube("work", files={"private.img": recipe.image}, qubes_writer=writer)
        made.write(FOLDER / f"{name}.qbackup")


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, recipe in RECIPES.items():
        if name in (sys.argv[1:] or RECIPES):
            make(name, recipe)


if __name__ == "__main__":
    main()
