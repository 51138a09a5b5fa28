"""Makes the committed vectors again: `python -m tests.testkit.generate [NAME…]`, from the
project's folder, with the real tools installed.

Salts are random, so the backups differ each time; heads don't.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.testkit.faults import GROUPS
from tests.testkit.scenes import Scenes
from tests.testkit.vector import FOLDER, SUFFIX, Vector, path_of


def make(folder: Path) -> Iterator[Vector]:
    """Every vector, made anew; `folder` is for what is made on the way."""
    scenes = Scenes(folder)
    for group in GROUPS:
        yield from group(scenes)


def main(wanted: list[str]) -> None:
    """Writes the vectors named, or all; then what nobody makes any more is removed."""
    FOLDER.mkdir(exist_ok=True)
    made: set[Path] = set()
    with tempfile.TemporaryDirectory() as scratch:
        for vector in make(Path(scratch)):
            path = path_of(vector.name)
            if path in made:
                raise ValueError(f"two vectors are called {vector.name}")
            made.add(path)
            if not wanted or vector.name in wanted:
                path.write_bytes(vector.to_bytes())
    for path in set(FOLDER.glob(f"*{SUFFIX}")) - made:
        path.unlink()


if __name__ == "__main__":
    main(sys.argv[1:])
