"""Runs a vector against qbackup, as a library and as a command, and compares all of what came:
the exit status, the report, and every file below a folder that holds more than the output.

What a vector expects is said in terms of the format; what qbackup calls it is said here.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qbackup
from qbackup import Incomplete, QBackupError, Report
from qbackup.cli.exit_status import exit_status
from tests.support.commandline import Ended, call, run
from tests.support.restored import Snapshot, snapshot
from tests.support.sources import ReadOnly, piped
from tests.testkit.vector import Vector

#: Expectation → the error that stands for it where nothing is restored.
ERRORS = {
    "wrong passphrase": "WrongPassphrase",
    "header altered": "HeaderAltered",
    "not a backup": "NotABackup",
    "unsupported": "UnsupportedFormat",
    "limit": "LimitExceeded",
}
#: How an error that is about a limit says so.
LIMIT_WORDS = re.compile(
    "limit|allow|(more|longer|deeper) than|too (many|much|long)|has [0-9]+ byte"
)
#: Where the names that lead elsewhere would lead, if they were followed.
OUTSIDE = Path("/qubes-testkit")

BYSTANDER = b"not of this backup\n"


@dataclass(frozen=True)
class Result:
    """One file of a report: QUBE/FILE, its status, what was wrong, and its path if another."""

    name: str
    status: str
    error: str
    restored_as: str | None = None


@dataclass(frozen=True)
class Outcome:
    """Outcome of a run: its exit status, the kind of error that ended it, its report; notes on
    files are among the warnings.
    """

    status: int
    kind: str
    results: tuple[Result, ...]
    errors: str
    warnings: tuple[str, ...]


class Arena:
    """A folder with the output folder in it, and things in both that must not be harmed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"
        self.out.mkdir(parents=True)
        for place in (self.folder, self.out):
            (place / "bystander").write_bytes(BYSTANDER)
        self.bystanders = snapshot(folder)

    def expected(self, vector: Vector) -> Snapshot:
        """Everything that must be there after a restore, and nothing else."""
        files = {f"out/{path}": what for path, what in vector.files.items()}
        links = {f"out/{path}": f"link {target}" for path, target in vector.links.items()}
        return self.bystanders | files | links

    def check(self, vector: Vector) -> None:
        """Compares the file system with what the vector says."""
        outside = {path: w for path, w in snapshot(self.folder).items() if path[:4] != "out/"}
        inside = {f"out/{path}": what for path, what in snapshot(self.out).items()}
        found, expected = outside | inside, self.expected(vector)
        assert found == expected, f"differs: {sorted(set(found.items()) ^ set(expected.items()))}"
        if vector.exit >= 2:  # nothing written: no folder either
            assert [path.name for path in self.out.iterdir()] == ["bystander"]
        assert not os.path.lexists(OUTSIDE)


def sources(vector: Vector) -> Sequence[str]:
    """The ways to read this vector's backup."""
    ways = {"any": ("file", "pipe"), "file": ("file",), "pipe": ("pipe",)}
    return ways[vector.source]


@contextlib.contextmanager
def opened(path: Path, way: str) -> Iterator[Any]:
    """The backup as a path, or as an object that has only `read` and gives it in pieces."""
    if way == "file":
        yield path
    else:
        with contextlib.closing(ReadOnly(path, at_most=7777)) as file:
            yield file


def restore(vector: Vector, backup: Path, way: str, out: Path) -> Outcome:
    """Through the library; only a report that is returned counts as success."""
    with opened(backup, way) as source:
        try:
            chosen = _chosen(vector.options)
            with qbackup.open(source, passphrase=vector.passphrase, **chosen) as archive:
                report = archive.restore(out)
        except Incomplete as incomplete:
            return _of_report(incomplete.report, exit_status(incomplete))
        except QBackupError as error:
            return Outcome(exit_status(error), type(error).__name__, (), str(error), ())
    return _of_report(report, 0)


def _chosen(options: Sequence[str]) -> dict[str, Any]:
    """The arguments of `qbackup.open` that options of the command line stand for."""
    if not options:
        return {}
    from qbackup.cli.options import parse

    parsed = parse(["restore", "BACKUP", "-o", "DIR", *options])
    names = ("compression_filter", "salvage", "limits")
    return {name: getattr(parsed, name) for name in names if getattr(parsed, name, None)}


def restore_by_command(vector: Vector, backup: Path, out: Path) -> Outcome:
    """Through `main`, in this process."""
    return _of_command(vector, call(*_arguments(vector, str(backup), out)))


def restore_by_process(vector: Vector, backup: Path, out: Path) -> Outcome:
    """Through a process; the backup comes from standard input if not a file is asked for."""
    if vector.source == "file":
        return _of_command(vector, run(*_arguments(vector, str(backup), out)))
    with piped(backup) as pipe:
        return _of_command(vector, run(*_arguments(vector, "-", out), stdin=pipe))


def _arguments(vector: Vector, backup: str, out: Path) -> list[str]:
    secret = out.parent.parent / "passphrase"
    secret.write_bytes(vector.passphrase + b"\n")
    options = ["--json", "--passphrase-file", str(secret), *vector.options]
    return ["restore", backup, "-o", str(out), *options]


def _of_report(report: Report, status: int) -> Outcome:
    assert report.ok == (status == 0)
    results = (
        Result(_full(r.qube, r.name), r.status, r.error or "", r.restored_as) for r in report.files
    )
    notes = [note for r in report.files for note in r.notes]
    warnings = (*report.warnings, *notes)
    return Outcome(status, "", tuple(results), "; ".join(report.errors), warnings)


def _of_command(vector: Vector, ended: Ended) -> Outcome:
    if len(vector.passphrase) > 8:
        assert vector.passphrase not in ended.stdout + ended.stderr
    document = ended.document
    assert document["ok"] == (ended.status == 0)
    results = []
    for file in document["files"]:
        encoded = file.get("name_bytes")
        name = base64.b64decode(encoded).decode("utf-8", "surrogateescape") if encoded else None
        full = _full(file["qube"], file["name"] if name is None else name)
        results.append(Result(full, file["status"], file["error"] or "", file.get("restored_as")))
    notes = [note for file in document["files"] for note in file.get("notes", ())]
    return Outcome(
        ended.status,
        document.get("kind", ""),
        tuple(results),
        document.get("error", ""),
        (*document.get("warnings", ()), *notes),
    )


def _full(qube: str, name: str) -> str:
    return f"{qube}/{name}" if qube else name


def check(vector: Vector, outcome: Outcome) -> None:
    """Compares what a run said with what the vector expects."""
    assert outcome.status == vector.exit, outcome
    if vector.exit >= 2:
        assert outcome.kind == ERRORS[vector.expect], outcome
        assert outcome.results == ()
        return
    assert outcome.kind == ""
    results = {result.name: result for result in outcome.results}
    assert len(results) == len(outcome.results) or "refused" in vector.lost.values()
    whole = {_unit(path) for path in (*vector.files, *vector.links)}
    found = {result.restored_as or result.name for result in outcome.results}
    assert found - whole == set(vector.lost) - whole, outcome
    for result in outcome.results:
        assert (result.status in ("ok", "kept")) or _loss(result) == vector.lost[result.name], (
            result
        )
    lost = {result.name for result in outcome.results if result.status not in ("ok", "kept")}
    assert lost == set(vector.lost), outcome
    assert bool(outcome.errors) == (vector.expect == "archive damaged"), outcome
    if vector.expect == "limit":
        errors = [results[name].error for name in vector.lost]
        assert all(LIMIT_WORDS.search(error) for error in errors), errors
    text = "\n".join(outcome.warnings)
    for name in vector.warnings:
        assert qbackup.base.names.display(name) in text, (name, text)


def _unit(path: str) -> str:
    """The file of the backup that a restored path belongs to: of a home, the whole of it."""
    components = path.split("/")
    return "/".join(components[:2]) if components[0] == "dom0" else path


def _loss(result: Result) -> str:
    """A loss in the vectors' words."""
    if result.status == "exists" or result.error.startswith(("refused: ", "not restored: ")):
        return "refused"
    return result.status
