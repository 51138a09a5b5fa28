"""Bytes of a backup: from a file, a pipe or an object that can read; each asked for once."""

from __future__ import annotations

import errno
import io
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbackup.base.errors import AlreadyPassed, Interrupted, MachineError, NotABackup, UsageError
from qbackup.storage.source import PipeSource, SeekableSource, Source, open_source
from tests.support.sources import ReadOnly, Recorded, piped

CONTENT = bytes(range(256)) * 400


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of CONTENT."""
    path = tmp_path / "backup"
    path.write_bytes(CONTENT)
    return path


def read(source: Source, offset: int, size: int) -> bytes:
    buffer = bytearray(size)
    count = source.read_into(offset, memoryview(buffer))
    assert not any(buffer[count:])
    return bytes(buffer[:count])


OPENERS: dict[str, Callable[[Path], BinaryIO | str | Path]] = {
    "path": lambda path: path,
    "str": str,
    "raw file": lambda path: path.open("rb", buffering=0),
    "buffered file": lambda path: path.open("rb"),
    "bytes": lambda path: io.BytesIO(path.read_bytes()),
    "short reads": lambda path: cast(BinaryIO, Recorded(path)),
}


class TestSeekable:
    @pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS)
    def test_reads_anywhere_and_stops_at_the_end(
        self, path: Path, opener: Callable[[Path], BinaryIO]
    ) -> None:
        opened = opener(path)
        source = open_source(opened)
        assert source.seekable
        for offset, size in [(500, 1000), (0, 10), (len(CONTENT) - 5, 100), (500, 1000)]:
            assert read(source, offset, size) == CONTENT[offset : offset + size]
        for offset in (len(CONTENT), 2**40, 2**50, 2**63 - 1, 2**63, 2**80):
            assert read(source, offset, 10) == b""
        source.close()
        if isinstance(opened, io.IOBase):
            assert not opened.closed
            opened.close()

    def test_many_threads_may_read_at_once(self, path: Path) -> None:
        for opened in (path, path.open("rb")):
            source = open_source(opened)
            wrong: list[int] = []

            def look(start: int, source: Source = source, wrong: list[int] = wrong) -> None:
                for offset in range(start, start + 20_000, 100):
                    if read(source, offset, 200) != CONTENT[offset : offset + 200]:
                        wrong.append(offset)

            threads = [threading.Thread(target=look, args=(n * 7777,)) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert wrong == []
            source.close()
            if isinstance(opened, io.IOBase):
                opened.close()

    def test_a_device_that_fails_is_the_machines_fault(self) -> None:
        class Bad(io.BytesIO):
            def readinto(self, buffer: object) -> int:
                raise OSError(errno.EIO, "Input/output error")

        class Odd(io.BytesIO):
            def readinto(self, buffer: object) -> int:
                raise OSError("no number, no name")

        for file, words in ((Bad(b"x"), "Input/output error"), (Odd(b"x"), "no number, no name")):
            with pytest.raises(MachineError, match=words):
                read(open_source(file), 0, 1)
            with pytest.raises(MachineError, match=words):
                read(PipeSource(file, owned=False), 0, 1)

    def test_a_place_that_the_device_refuses_is_an_error_where_data_could_be(self) -> None:
        class Refusing(io.BytesIO):
            def seek(self, offset: int, whence: int = 0) -> int:
                raise OSError(errno.EINVAL, "Invalid argument")

        source = SeekableSource(Refusing(b"x"), owned=False)
        with pytest.raises(MachineError):
            read(source, 5, 1)
        assert read(source, 2**60, 1) == b""

    def test_reading_after_close_is_told(self, path: Path) -> None:
        source = open_source(path)
        source.close()
        source.close()
        with pytest.raises(Interrupted):
            read(source, 0, 1)
        file = path.open("rb")
        source = open_source(file)
        file.close()
        with pytest.raises(Interrupted):
            read(source, 0, 1)


class TestPipes:
    def test_what_lies_between_is_read_and_dropped(self, tmp_path: Path) -> None:
        path = tmp_path / "backup"
        content = os.urandom(3 << 20)
        path.write_bytes(content)
        with piped(path) as file:
            source = open_source(file)
            assert not source.seekable
            assert read(source, 10, 20) == content[10:30]
            assert read(source, 30, 5) == content[30:35]
            assert read(source, (2 << 20) + 123, 1000) == content[(2 << 20) + 123 :][:1000]
            assert read(source, len(content) - 3, 10) == content[-3:]
            assert read(source, len(content) + 100, 10) == b""

    def test_never_go_back(self) -> None:
        source = PipeSource(io.BytesIO(CONTENT), owned=False)
        read(source, 0, 100)
        with pytest.raises(AlreadyPassed):
            read(source, 99, 1)

    @given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 3000)), max_size=10))
    def test_give_what_a_file_gives(self, steps: list[tuple[int, int]]) -> None:
        pipe = PipeSource(io.BytesIO(CONTENT[:20_000]), owned=False)
        file = open_source(io.BytesIO(CONTENT[:20_000]))
        position = 0
        for gap, size in steps:
            position += gap
            assert read(pipe, position, size) == read(file, position, size)
            position += size

    def test_an_object_that_can_only_read_is_a_pipe(self, path: Path) -> None:
        file = ReadOnly(path, at_most=100)
        source = open_source(cast(BinaryIO, file))
        assert not source.seekable
        assert read(source, 50, 1000) == CONTENT[50:1050]
        file.close()

    def test_one_that_was_set_not_to_wait_is_waited_for(self) -> None:
        """No data yet is no end of the backup."""
        read_end, write_end = os.pipe()
        os.set_blocking(read_end, False)

        def write() -> None:
            for start in range(0, len(CONTENT), 10_000):
                os.write(write_end, CONTENT[start : start + 10_000])
                gate.wait(0.01)
            os.close(write_end)

        gate = threading.Event()
        with os.fdopen(read_end, "rb", buffering=0) as file:
            writer = threading.Thread(target=write)
            source = open_source(cast(BinaryIO, file))
            writer.start()
            assert read(source, 0, len(CONTENT) + 1) == CONTENT
            writer.join()

    def test_reading_after_close_is_told(self, path: Path) -> None:
        file = path.open("rb")
        source = PipeSource(file, owned=True)
        source.close()
        assert file.closed
        with pytest.raises(Interrupted):
            read(source, 0, 1)

    def test_a_named_pipe_may_be_opened(self, tmp_path: Path) -> None:
        path = tmp_path / "pipe"
        os.mkfifo(path)
        writer = threading.Thread(target=path.write_bytes, args=(CONTENT,))
        writer.start()
        source = open_source(path)
        assert not source.seekable
        assert read(source, 0, len(CONTENT) + 1) == CONTENT
        writer.join()
        source.close()


class TestOpening:
    def test_a_folder_is_no_backup(self, tmp_path: Path) -> None:
        with pytest.raises(NotABackup, match="folder"):
            open_source(tmp_path)

    def test_a_terminal_or_socket_is_no_backup(self, tmp_path: Path) -> None:
        for name in ("/dev/null", "/dev/zero"):
            with pytest.raises(NotABackup, match="device"):
                open_source(name)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(tmp_path / "socket"))
            with pytest.raises(NotABackup, match="socket"):
                open_source(tmp_path / "socket")

    def test_a_file_that_is_not_there_is_the_callers_fault(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no such file"):
            open_source(tmp_path / "missing")

    def test_one_that_can_not_be_opened_is_the_machines(self, tmp_path: Path) -> None:
        loop = tmp_path / "loop"
        loop.symlink_to(loop)
        with pytest.raises(MachineError, match="can't open"):
            open_source(loop)

    def test_a_name_that_no_file_can_have_is_told(self) -> None:
        with pytest.raises(UsageError):
            open_source("a\0b")
        with pytest.raises(MachineError, match="too long"):
            open_source("a" * 5000)
