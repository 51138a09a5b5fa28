"""Runs harnesses: `python -m tests.fuzz [NAME…] [--seconds N] [--jobs N] [--corpus DIR] …`.

Says how far each came. A finding is shown with its traceback and the input in base64, and stands
in DIR/findings; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import CORPUS, HARNESSES

_PATIENCE_SECONDS = 600  # for one input, where nothing moves at all: a deadlock takes no CPU time
_FIGURES = re.compile(r"#(\d+)\s+DONE\s+cov: (\d+) ft: \d+ corp: (\d+)/")
_SHOWN_LINES = 60


@dataclass(frozen=True)
class Ended:
    """How one harness ended: CPU seconds, and all that it printed."""

    name: str
    status: int
    seconds: float
    output: str
    findings: Mapping[str, bytes]

    @property
    def is_good(self) -> bool:
        """It ran to its end and found nothing."""
        return self.status == 0 and _FIGURES.search(self.output) is not None

    def line(self) -> str:
        """For the table."""
        figures = _FIGURES.search(self.output)
        if not self.is_good or figures is None:
            return f"{self.name:10} {self.seconds:11.0f}  FAILED"
        count, coverage, inputs = map(int, figures.groups())
        rate = int(count / max(1, self.seconds))
        return (
            f"{self.name:10} {self.seconds:11.0f} {count:11,} {rate:9,} {coverage:9,} {inputs:7,}"
        )

    def story(self) -> Iterator[str]:
        """What it said, without what libFuzzer tells on the way, and the input."""
        yield f"\n== {self.name}: status {self.status}"
        yield from [line for line in self.output.splitlines() if line[:1] != "#"][-_SHOWN_LINES:]
        for name, data in self.findings.items():
            yield f"{name}: {base64.b64encode(data).decode()}"


def run(name: str, seconds: int, folder: Path, seed: int) -> Ended:
    """One harness in a process of its own; what it comes upon is kept in the folder."""
    found, findings = folder / name, folder / "findings"
    for place in (found, findings):
        place.mkdir(parents=True, exist_ok=True)
    before = set(findings.glob(f"{name}-*"))
    options = [
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        f"-artifact_prefix={findings}/{name}-",
        f"-timeout={_PATIENCE_SECONDS}",
        "-rss_limit_mb=0",  # `guard` looks at each input
        "-report_slow_units=100000",
        "-reload=0",
    ]
    command = [sys.executable, "-m", "tests.fuzz.engine", name, *options]
    command += [str(found), str(CORPUS / name)]
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=_environment()
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    new = {p.name: p.read_bytes() for p in set(findings.glob(f"{name}-*")) - before}
    text = log.read_text(errors="replace")
    seconds_used = usage.ru_utime + usage.ru_stime
    return Ended(name, process.returncode, seconds_used, text, new)


def _environment() -> dict[str, str]:
    """With few arenas, so that addresses say something about memory; hashes are no chance."""
    return os.environ | {"MALLOC_ARENA_MAX": "2", "PYTHONHASHSEED": "0"}


@contextlib.contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        yield kept.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="qbackup-fuzz-") as folder:
        yield Path(folder)


def main() -> int:
    """The exit status: 0, or 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(HARNESSES)}")
    parser.add_argument("--seconds", type=int, default=30, help="for each harness")
    parser.add_argument("--jobs", type=int, default=1, help="harnesses at once")
    parser.add_argument("--corpus", type=Path, help="keeps what is found, and begins with it")
    parser.add_argument("--seed", type=int, default=0, help="the same inputs again; 0: others")
    options = parser.parse_args()
    names = options.names or list(HARNESSES)
    if unknown := sorted(set(names) - set(HARNESSES)):
        parser.error(f"no such harness: {', '.join(unknown)}")
    print("harness    CPU seconds  executions  a second  coverage  inputs", flush=True)
    failed = []
    with _folder(options.corpus) as folder, ThreadPoolExecutor(options.jobs) as pool:
        for ended in pool.map(lambda name: run(name, options.seconds, folder, options.seed), names):
            print(ended.line(), flush=True)
            failed += [] if ended.is_good else [ended]
    for ended in failed:
        print(*ended.story(), sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
