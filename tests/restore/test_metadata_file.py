"""``qubes.xml`` in the output folder: written once, kept where it is equal, never replaced."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from qbackup.base.names import METADATA_PATH
from qbackup.restore.metadata_file import write_metadata
from qbackup.restore.output.writer import FolderWriter

DATA = b"<qubes/>"


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[FolderWriter]:
    with contextlib.closing(FolderWriter(tmp_path)) as writer:
        yield writer


def test_is_written(writer: FolderWriter, tmp_path: Path) -> None:
    result = write_metadata(writer, DATA)
    assert (result.status, result.size, result.qube) == ("ok", len(DATA), "")
    assert (tmp_path / METADATA_PATH).read_bytes() == DATA


def test_is_kept_where_it_is_equal(writer: FolderWriter, tmp_path: Path) -> None:
    write_metadata(writer, DATA)
    before = (tmp_path / METADATA_PATH).stat()
    assert write_metadata(writer, DATA).status == "kept"
    assert (tmp_path / METADATA_PATH).stat() == before


def test_another_one_is_left_alone(writer: FolderWriter, tmp_path: Path) -> None:
    (tmp_path / METADATA_PATH).write_bytes(b"another")
    result = write_metadata(writer, DATA)
    assert result.status == "exists"
    assert "--overwrite" in (result.error or "")
    assert (tmp_path / METADATA_PATH).read_bytes() == b"another"


def test_a_folder_in_its_place_stays(writer: FolderWriter, tmp_path: Path) -> None:
    (tmp_path / METADATA_PATH).mkdir()
    assert write_metadata(writer, DATA).status == "exists"
    assert (tmp_path / METADATA_PATH).is_dir()
