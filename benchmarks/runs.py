"""An image with five million runs of data, beside one with fifty: the same data, the same length.

    python -m benchmarks.runs [--small] [--turns N] [--runs COUNT]
                              [--commands restore …] [--writers qubes …]

Qubes R4's own writer ends a run at each block of 512 zero bytes, so a real tree of 100 GiB has
millions of runs. The images are stored as that writer does (`tests.maker.tarwriter`), and by GNU
tar as old-GNU sparse members; pigz compresses them, `scrypt` encrypts them at N=2^18, r=8, p=5.
Each is restored, verified and read by `cat`, by turns; what is restored must be the image.
"""

from __future__ import annotations

import argparse
import filecmp
import random
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.command import Run, run
from benchmarks.machine import Setup, describe
from benchmarks.table import markdown
from tests.maker import BackupMaker

PASSPHRASE = "correct horse battery staple"
BLOCK = 512
FEW = 50
COMMANDS = ("restore", "verify", "cat")
WRITERS = ("qubes", "gnu")
TARGET = 1.5  # times as long with many runs as with few
_ROUND = 1000  # blocks that are written at once


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="try it on something tiny")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--runs", type=int, default=5_000_000)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=COMMANDS)
    parser.add_argument("--writers", nargs="+", choices=WRITERS, default=WRITERS)
    options = parser.parse_args()
    count = 20_000 if options.small else options.runs
    folder = Path(tempfile.gettempdir()) / f"qbackup-runs-{count}"
    log2_n = 10 if options.small else 18
    kinds = {
        (runs, writer): make_backup(folder, count, runs, writer, log2_n)
        for runs in (FEW, count)
        for writer in options.writers
    }
    print(describe())
    print(f"{count:,} blocks of data in {2 * count:,}, medians of {options.turns} turns:\n")
    for name in options.commands:
        seen: dict[tuple[int, str], list[Run]] = {kind: [] for kind in kinds}
        for _ in range(options.turns):
            for kind, backup in kinds.items():
                seen[kind].append(take(name, folder, backup, kind[0]))
        print(f"\n### {name}\n\n{report(seen, count)}")


def report(seen: dict[tuple[int, str], list[Run]], count: int) -> str:
    """A row for each backup; the ratio is to the one of the same writer with few runs."""
    rows = []
    for (runs, writer), measured in seen.items():
        wall = statistics.median(one.wall for one in measured)
        few = statistics.median(one.wall for one in seen[FEW, writer])
        cpu = statistics.median(one.cpu for one in measured)
        memory = statistics.median(one.memory for one in measured)
        ratio = f"{wall / few:.2f}" + (f" ({TARGET})" if runs == count else "")
        rows.append([f"{runs:,}, {writer}", f"{wall:.1f}", ratio, f"{cpu:.1f}", f"{memory:.0f}"])
    return markdown(["runs, writer", "s", "ratio", "CPU s", "peak MiB"], rows)


def take(name: str, folder: Path, backup: Path, runs: int) -> Run:
    """One command, checked: what comes out is the image."""
    image, out = folder / f"{runs}.img", folder / "out"
    common = ["-p", str(folder / "passphrase"), "-q"]
    if name == "cat":
        with out.open("wb") as file:
            command = Setup("").module("qbackup", "cat", str(backup), "work/private.img", *common)
            measured = run(command, file)
        out.unlink()
        return measured
    names = ["-o", str(out)] if name == "restore" else []
    measured = run(Setup("").module("qbackup", name, str(backup), *names, *common))
    if name == "restore":
        if not filecmp.cmp(image, out / "work/private.img", shallow=False):
            raise SystemExit(f"{backup}: the restored image differs")
        shutil.rmtree(out)
    return measured


def make_backup(folder: Path, count: int, runs: int, writer: str, log2_n: int) -> Path:
    """The backup of one image; kept from an earlier run if it is there."""
    backup = folder / f"{runs}-{writer}"
    if backup.exists():
        return backup
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "passphrase").write_text(PASSPHRASE + "\n")
    image = make_image(folder / f"{runs}.img", count, runs)
    work = folder / "maker"
    shutil.rmtree(work, ignore_errors=True)
    scrypt = ("--logN", str(log2_n), "-r", "8", "-p", "5")
    maker = BackupMaker(
        work, passphrase=PASSPHRASE, scrypt_options=scrypt, compression_filter="pigz"
    )
    own = ["private.img"] if writer == "qubes" else []
    maker.add_qube("work", files={"private.img": image}, qubes_writer=own)
    part = maker.write(folder / f"{backup.name}.part")
    part.rename(backup)
    shutil.rmtree(work)
    return backup


def make_image(path: Path, count: int, runs: int) -> Path:
    """Blocks of data in a number of runs, with as much hole behind each run as it has data."""
    if path.exists():
        return path
    per_run = count // runs
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        held, position = 0, 0
        for data in blocks(count):
            if runs == count:  # a hole that GNU tar finds only by looking at the zeros
                file.write(b"".join(block + bytes(BLOCK) for block in data))
                continue
            for block in data:
                file.seek(position)
                file.write(block)
                held, position = held + 1, position + BLOCK
                if held % per_run == 0:
                    position += per_run * BLOCK
        file.truncate(2 * count * BLOCK)
    part.rename(path)
    return path


def blocks(count: int) -> Iterator[list[bytes]]:
    """Blocks of data, a quarter of each incompressible: the same for each image."""
    chance = random.Random(1)
    text = b"the quick brown fox jumps over the lazy dog " * 9
    for start in range(0, count, _ROUND):
        number = min(_ROUND, count - start)
        yield [chance.randbytes(128) + text[: BLOCK - 128] for _ in range(number)]


if __name__ == "__main__":
    main()
