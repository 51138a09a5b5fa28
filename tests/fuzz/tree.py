"""A folder archive (dom0's home), restored: to nowhere, and into a folder with a neighbour."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from qbackup.base.errors import QBackupError
from qbackup.base.names import unsafe_reason
from qbackup.content.inner import InnerArchive
from qbackup.restore.nowhere import NowhereWriter
from qbackup.restore.output.writer import FolderWriter
from qbackup.restore.sinks import Writer
from qbackup.restore.tree import TreeRestore
from tests.fuzz.common import LIMITS, archives, outcome
from tests.fuzz.inner import add_runs, own_name
from tests.support.restored import snapshot
from tests.support.tarbytes import in_pieces

_HOME = "dom0-home/user"


@dataclass
class _Restored:
    error: str | None = None
    size: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)


def check(data: bytes) -> None:
    """Nothing is made outside; what is not whole gets no name; verifying says the same."""
    for archive in archives(data):
        name = own_name(archive, _HOME)
        home = name.rstrip("/") if name.startswith("dom0-home/") else _HOME
        _check_entries(archive, home)
        _check_restore(archive, home)


def _check_entries(archive: bytes, home: str) -> None:
    inner = InnerArchive(in_pieces(archive, 600), home, LIMITS)

    def read() -> None:
        for count, entry in enumerate(inner.entries()):
            assert count < LIMITS.tree_entries
            assert entry.path == "." or unsafe_reason(entry.path, any_byte=True) is None
            add_runs([], entry.extents(), entry.size)

    outcome(read)


def _check_restore(archive: bytes, home: str) -> None:
    verified = _restore(archive, home, NowhereWriter())
    with tempfile.TemporaryDirectory(prefix="qbackup-fuzz-", dir=scratch()) as scene:
        out = Path(scene, "out")
        before = snapshot(out.parent)
        writer = FolderWriter(out)
        try:
            restored = _restore(archive, home, writer)
        finally:
            writer.close()
        assert restored.error == verified.error
        if restored.error is None:
            assert restored.size <= verified.size
            assert set(verified.refused) <= set(restored.refused)
        found = snapshot(out.parent, folders=True)
        outside = {path for path in found if not path.startswith("out")}
        assert outside == set(before)
        assert set(os.listdir(out)) <= {"dom0"}
        made = os.listdir(out / "dom0") if (out / "dom0").exists() else []
        assert made == (["user"] if restored.error is None else [])


def scratch() -> str | None:
    """Where memory stands for a disk, so that nothing is worn out or waited for."""
    return "/dev/shm" if os.path.isdir("/dev/shm") else None


def _restore(archive: bytes, home: str, writer: Writer) -> _Restored:
    result = _Restored()

    def restore() -> None:
        inner = InnerArchive(in_pieces(archive, 70_000), home, LIMITS)
        with writer.tree("dom0", "user") as sink:
            tree = TreeRestore(sink, LIMITS)
            for entry in inner.entries():
                tree.add(entry)
            tree.finish()
        result.size, result.refused = tree.size, tree.refused

    error = outcome(restore)
    result.error = str(error) if isinstance(error, QBackupError) else None
    return result
