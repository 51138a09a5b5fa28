"""Writers of one's own: what `restore` gives them, and what becomes of what they raise."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import qbackup
from qbackup import BackupArchive, Incomplete, UsageError
from qbackup.restore.nowhere import NowhereWriter
from qbackup.restore.sinks import AlreadyExists, CannotWrite, FileSink, TreeSink
from tests.support import vectorfiles

IMAGES = "gzip-folders"
DAMAGED = "damaged"


class Image:
    """One file in memory, whole once it was committed."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_whole = False
        self.chunks = 0

    def write(self, offset: int, data: memoryview) -> None:
        self.data.extend(bytes(max(0, offset + len(data) - len(self.data))))
        self.data[offset : offset + len(data)] = data

    def commit(self, size: int, chunks: int = 0) -> None:
        self.data.extend(bytes(size - len(self.data)))
        self.is_whole, self.chunks = True, chunks

    def keep(self, size: int) -> str | None:
        return None


class Memory(NowhereWriter):
    """Keeps the images of a backup in memory."""

    def __init__(self) -> None:
        self.images: dict[str, Image] = {}
        self.trees: list[str] = []

    def image(self, qube: str, name: str) -> contextlib.AbstractContextManager[FileSink]:
        self.images[f"{qube}/{name}" if qube else name] = image = Image()
        return contextlib.nullcontext(image)

    def tree(self, qube: str, name: str) -> contextlib.AbstractContextManager[TreeSink]:
        self.trees.append(f"{qube}/{name}")
        return super().tree(qube, name)


@contextlib.contextmanager
def opened(name: str, path: Path | None = None) -> Iterator[BackupArchive]:
    passphrase = vectorfiles.load(name)["passphrase"]
    with qbackup.open(path or vectorfiles.backup_path(name), passphrase=passphrase) as backup:
        yield backup


@pytest.mark.parametrize("name", [IMAGES, "v3-home", "pigz-home", "v2-template"])
def test_all_that_a_folder_would_get_comes_to_a_writer(name: str, tmp_path: Path) -> None:
    vector, memory = vectorfiles.load(name), Memory()
    with opened(name) as backup:
        report = backup.restore(memory)
        other = backup.restore(tmp_path / "out")
    assert report.ok
    assert [(r.qube, r.name, r.status) for r in report.files] == [
        (r.qube, r.name, r.status) for r in other.files
    ]
    assert bytes(memory.images["qubes.xml"].data) == (tmp_path / "out/qubes.xml").read_bytes()
    for file in vector["files"]:
        image = memory.images[f"{file['qube']}/{file['name']}"]
        assert image.is_whole
        assert image.chunks == file["chunks"]
        assert hashlib.sha256(image.data).hexdigest() == file["sha256"]
    assert len(memory.trees) == len(vector["homes"]) + len(vector["folders"])


def test_a_damaged_file_is_never_committed(tmp_path: Path) -> None:
    data = bytearray(vectorfiles.backup_path(IMAGES).read_bytes())
    with opened(IMAGES) as backup:
        file = next(file for file in backup.files if file.name.endswith(".img"))
        chunk = next(iter(file.chunks))
        data[chunk.offset + chunk.size - 1] ^= 1
    path = tmp_path / DAMAGED
    path.write_bytes(data)
    memory = Memory()
    with opened(IMAGES, path) as backup, pytest.raises(Incomplete) as caught:
        backup.restore(memory)
    assert [f"{r.qube}/{r.name}" for r in caught.value.report.bad] == [file.name]
    assert not memory.images[file.name].is_whole
    assert all(image.is_whole for name, image in memory.images.items() if name != file.name)


@pytest.mark.parametrize(
    ("error", "status"), [(AlreadyExists(), "exists"), (CannotWrite("refused"), "damaged")]
)
def test_what_a_writer_refuses_costs_that_file_only(error: Exception, status: str) -> None:
    class Refusing(Memory):
        def image(self, qube: str, name: str) -> contextlib.AbstractContextManager[FileSink]:
            if name == "private.img":
                raise error
            return super().image(qube, name)

    with opened(IMAGES) as backup:
        report = backup.restore(Refusing(), check=False)
    refused = {r.status for r in report.files if r.name == "private.img"}
    others = {r.status for r in report.files if r.name != "private.img"}
    assert (refused, others) == ({status}, {"ok"})


@pytest.mark.parametrize("argument", ["overwrite", "keep_damaged"])
def test_arguments_for_folders_are_refused(argument: str) -> None:
    memory = Memory()
    with opened(IMAGES) as backup, pytest.raises(UsageError, match=argument):
        backup.restore(memory, **{argument: True})  # type: ignore[arg-type]
    assert memory.images == {}


@pytest.mark.parametrize("output", [5, None, 2.5, [], Memory, len])
def test_neither_a_path_nor_a_writer_is_refused(output: Any) -> None:
    with opened(IMAGES) as backup, pytest.raises(UsageError, match="a path or a Writer, not "):
        backup.restore(output)


def test_a_name_that_is_not_there_is_an_error_before_the_first_byte() -> None:
    memory = Memory()
    with opened(IMAGES) as backup, pytest.raises(qbackup.NotInBackup):
        backup.restore(memory, ["nobody"])
    assert memory.images == {}
