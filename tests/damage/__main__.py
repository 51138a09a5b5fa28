"""Prints the damage matrix.

python -m tests.damage [--seed 1] [--samples NAME …] [--kinds NAME …] [--all]
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.damage import optimum
from tests.damage.kinds import KINDS
from tests.damage.samples import SAMPLES, make_sample
from tests.damage.trial import restore

TARGET = 0.98


@dataclass(frozen=True)
class Cell:
    """One damage of one backup.

    Args:
        sample: name of the backup.
        kind: of the damage.
        data: number of bytes of image data in the backup.
        best: how many of them are provable.
        right: how many of them came out as they were.
        wrong: number of bytes that were called good and are others.
    """

    sample: str
    kind: str
    data: int
    best: int
    right: int
    wrong: int

    @property
    def share(self) -> float:
        """Share of the provable bytes that came out."""
        return self.right / self.best if self.best else 1.0


def row_of(name: str, kinds: Sequence[str], seed: int) -> list[Cell]:
    """Makes one backup, damages it in each way, and restores each."""
    cells = []
    with tempfile.TemporaryDirectory() as folder:
        sample = make_sample(name, Path(folder) / "made", seed=seed)
        for kind in kinds:
            damage = KINDS[kind](sample, random.Random(f"{seed} {name} {kind}"))
            work = Path(folder) / "work"
            work.mkdir()
            outcomes = restore(sample, damage, work)
            for path in work.iterdir():
                path.unlink()
            work.rmdir()
            images = sample.images
            cells.append(
                Cell(
                    sample=name,
                    kind=kind,
                    data=sum(image.data_size for image in images.values()),
                    best=sum(optimum.provable(sample, i, damage) for i in images.values()),
                    right=sum(outcome.right for outcome in outcomes.values()),
                    wrong=sum(outcome.wrong for outcome in outcomes.values()),
                )
            )
    return cells


def table(cells: Sequence[Cell]) -> str:
    """Gives the matrix: for each kind and backup the share of the provable data that came out."""
    names = list(dict.fromkeys(cell.sample for cell in cells))
    width = max(len(cell.kind) for cell in cells)
    lines = [" " * width + "".join(f"{name:>12}" for name in names)]
    for kind in dict.fromkeys(cell.kind for cell in cells):
        row = {cell.sample: cell for cell in cells if cell.kind == kind}
        lines.append(f"{kind:<{width}}" + "".join(f"{_text(row[name]):>12}" for name in names))
    return "\n".join(lines)


def _text(cell: Cell) -> str:
    text = f"{100 * cell.right // cell.data}/{100 * cell.best // cell.data}"
    return text + ("" if cell.share >= TARGET else "<") + (f"!{cell.wrong}" if cell.wrong else "")


def main() -> int:
    """Runs the matrix; gives 1 if a wrong byte was called good or a cell is under the target."""
    parser = argparse.ArgumentParser(prog="python -m tests.damage", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--samples", nargs="+", choices=SAMPLES, default=list(SAMPLES))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    arguments = parser.parse_args()
    work = [(name, arguments.kinds, arguments.seed) for name in arguments.samples]
    with multiprocessing.Pool() as pool:
        cells = [cell for row in pool.starmap(row_of, work, chunksize=1) for cell in row]
    print("Percent of the images' data that came out right / that can be proven.\n")
    print(table(cells))
    under = [cell for cell in cells if cell.share < TARGET]
    wrong = sum(cell.wrong for cell in cells)
    print(f"\n{len(cells)} cells, {len(under)} under {TARGET:.0%} (<), {wrong} wrong bytes (!).")
    return 1 if under or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
