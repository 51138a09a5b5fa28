"""Restoring a backup of format 3 on one core: encrypted, not compressed.

    python -m benchmarks.legacy [--small] [--turns N]

No key is derived there, so what counts is stored MB (10^6 bytes) a second through HMAC-SHA512,
AES-256-CBC and the disk. The backup is made once by the real tools. Each command runs with one
core, by turns; CPU seconds say what it would take on an idle machine.
"""

from __future__ import annotations

import argparse
import filecmp
import hmac
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.command import Run, run
from benchmarks.machine import Setup, describe
from benchmarks.table import markdown
from qbackup.crypto.ciphers import choose_cbc
from tests.maker import Format3Maker

MIB = 1 << 20
PASSPHRASE = "correct horse battery staple"
FULL_MIB, SMALL_MIB = 600, 12
_SAMPLE = 64 * MIB


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="try it on something tiny")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    size = SMALL_MIB if options.small else FULL_MIB
    folder = Path(tempfile.gettempdir()) / f"qbackup-legacy-{size}"
    backup = make_backup(folder, size)
    stored = backup.stat().st_size
    runs: dict[str, list[Run]] = {"restore": [], "verify": []}
    for _ in range(options.turns):
        for name, measured in runs.items():
            measured.append(take(name, folder, backup))
    print(describe())
    print(f"{stored / 1e6:.0f} MB stored, one core, medians of {options.turns} turns:\n")
    rows = [row(name, stored, measured) for name, measured in runs.items()]
    rows += [[name, f"{rate:.0f}", "", "", ""] for name, rate in parts().items()]
    print(markdown(["", "MB/s", "MB/s of CPU time", "s", "peak MiB"], rows))


def row(name: str, stored: int, runs: list[Run]) -> list[str]:
    """One command's line."""
    wall = statistics.median(one.wall for one in runs)
    cpu = statistics.median(one.cpu for one in runs)
    memory = max(one.memory for one in runs)
    rates = [f"{stored / seconds / 1e6:.0f}" for seconds in (wall, cpu)]
    return [f"`{name}`", *rates, f"{wall:.2f}", f"{memory:.0f}"]


def make_backup(folder: Path, size: int) -> Path:
    """The backup; kept from an earlier run if it is there."""
    backup = folder / "backup"
    if backup.exists():
        return backup
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    chance = random.Random(1)
    with (folder / "image").open("wb") as image:
        for _ in range(size):
            image.write(chance.randbytes(MIB))
    maker = Format3Maker(folder / "maker", passphrase=PASSPHRASE, compression_filter=None)
    maker.add_qube("work", files={"private.img": folder / "image"})
    part = maker.write(folder / "backup.part")
    shutil.rmtree(folder / "maker")
    (folder / "passphrase").write_text(PASSPHRASE + "\n")
    part.rename(backup)
    return backup


def take(name: str, folder: Path, backup: Path) -> Run:
    """One run of a command with one core. Raises SystemExit where what it restored differs."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    command = Setup("").module("qbackup", name, str(backup), "-q", "--jobs", "1")
    command += ["-p", str(folder / "passphrase")]
    command += ["-o", str(out)] if name == "restore" else []
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # the command's too
    try:
        measured = run(command)
    finally:
        os.sched_setaffinity(0, cores)
    if name == "restore" and not filecmp.cmp(
        folder / "image", out / "work/private.img", shallow=False
    ):
        raise SystemExit("the restored image differs")
    return measured


def parts() -> dict[str, float]:
    """MB/s of each part by itself."""
    data = memoryview(bytearray(os.urandom(MIB) * (_SAMPLE // MIB)))
    cipher = choose_cbc("aes-256-cbc")
    return {
        "HMAC-SHA512": rate(lambda: hmac.digest(b"key", data, "sha512")),
        "AES-256-CBC": rate(lambda: cipher.decrypt(bytes(32), bytes(16), data)),
    }


def rate(work: Callable[[], object]) -> float:
    """The best of three, as others may be busy."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return _SAMPLE / min(seconds) / 1e6


if __name__ == "__main__":
    main()
