"""File objects that answer nonsense: one clear error, and no loop, whoever wrote them."""

from __future__ import annotations

import codecs
import fcntl
import gzip
import io
import os
import resource
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

import qbackup
from qbackup.base.errors import MachineError, QBackupError, UsageError
from qbackup.storage.fileobject import length_of, read_piece, read_some
from tests.support.commandline import SAMPLE, SAMPLE_FILE, SMALL, SMALL_SECRET

CONTENT = SMALL.read_bytes()


class Odd:
    """A file with `read` alone, whose answers a test makes out of the right ones."""

    def __init__(self, answer: Callable[[bytes], Any], good: int = 0) -> None:
        self._file = io.BytesIO(CONTENT)
        self._answer = answer
        self._good = good
        self.calls = 0

    def read(self, size: int = -1) -> Any:
        self.calls += 1
        assert self.calls < 10_000, "an endless loop"
        data = self._file.read(size)
        return data if self.calls <= self._good else self._answer(data)


class OddSeekable(Odd):
    """The same, seekable."""

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


class OddRaw(io.RawIOBase):
    """A raw file whose `readinto` gives what a test wants."""

    def __init__(self, count: Any, *, has_descriptor: bool = False) -> None:
        super().__init__()
        self._count = count
        self._has_descriptor = has_descriptor
        self.calls = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Any:
        self.calls += 1
        assert self.calls < 10_000, "an endless loop"
        return self._count(buffer) if callable(self._count) else self._count

    def fileno(self) -> int:
        if not self._has_descriptor:
            return super().fileno()
        return READY.fileno()


#: A file that always has data, as `select` sees it.
READY = open(SMALL, "rb")  # noqa: SIM115

ANSWERS: dict[str, tuple[Callable[[bytes], Any], type[Exception], str]] = {
    "None": (lambda _: None, MachineError, "gives None"),
    "str": (lambda data: data.decode("latin-1"), UsageError, "open it in binary mode"),
    "a number": (len, UsageError, "and not bytes"),
    "a list": (list, UsageError, "gives a list and not bytes"),
    "more": (lambda data: data + b"x", MachineError, r"read\(\d+\) gives \d+ bytes"),
    "much more": (lambda data: data * 1000, MachineError, r"gives \d+ bytes"),
}


class TestAnswers:
    @pytest.mark.parametrize("name", ANSWERS)
    @pytest.mark.parametrize("kind", [Odd, OddSeekable])
    @pytest.mark.parametrize("good", [0, 3])
    def test_one_that_makes_no_sense_is_an_error(
        self, kind: type[Odd], name: str, good: int
    ) -> None:
        answer, error, text = ANSWERS[name]
        file = kind(answer, good)
        with pytest.raises(error, match=text):
            read_all(cast(BinaryIO, file))

    @pytest.mark.parametrize("make", [bytearray, memoryview])
    @pytest.mark.parametrize("kind", [Odd, OddSeekable])
    def test_other_bytes_are_bytes(self, kind: type[Odd], make: Callable[[bytes], Any]) -> None:
        assert read_all(cast(BinaryIO, kind(make))) == read_all(io.BytesIO(CONTENT))

    @pytest.mark.parametrize("count", [-1, -(1 << 70), 1 << 40, 1 << 70, "5", 1.5, b"x", [1]])
    def test_a_count_that_makes_no_sense_is_an_error(self, count: object) -> None:
        with pytest.raises(MachineError, match=r"readinto\(\) gives"):
            qbackup.open(cast(BinaryIO, OddRaw(count)))

    def test_none_with_nothing_to_wait_for(self) -> None:
        for file in (OddRaw(None), Odd(lambda _: None)):
            with pytest.raises(MachineError, match="nothing to wait for"):
                qbackup.open(cast(BinaryIO, file))

    def test_none_though_there_are_data(self) -> None:
        with pytest.raises(MachineError, match=r"readinto\(\) gives None, again and again"):
            qbackup.open(cast(BinaryIO, OddRaw(None, has_descriptor=True)))

    def test_a_value_error_of_an_open_file_is_its_own(self) -> None:
        def refuse(_: bytes) -> None:
            raise ValueError("no such block")

        class Open(OddSeekable):
            closed = False

        with pytest.raises(MachineError, match="no such block"):
            qbackup.open(cast(BinaryIO, Open(refuse)))


def read_all(file: BinaryIO) -> bytes:
    with (
        qbackup.open(file, passphrase=SMALL_SECRET) as backup,
        backup.open("personal/private.img") as image,
    ):
        return image.read()


def test_a_pipe_with_a_high_number_is_waited_for() -> None:
    """Numbers above 1,023 are more than `select` can wait for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2000:
        pytest.skip("this process may not have so many files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    low, writing = os.pipe()
    reading = fcntl.fcntl(low, fcntl.F_DUPFD, 1500)
    try:
        os.set_blocking(reading, False)
        later = threading.Timer(0.1, os.write, (writing, b"data"))
        later.start()
        with open(reading, "rb", buffering=0, closefd=False) as file:
            buffer = bytearray(4)
            assert read_some(cast(BinaryIO, file), memoryview(buffer)) == 4
        later.join()
        assert bytes(buffer) == b"data"
    finally:
        for fd in (low, writing, reading):
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class TestErrors:
    """A file object of the caller's may raise any error: the machine's, as far as is known."""

    @pytest.mark.parametrize("size", [100, 20_000, 60_000])
    def test_a_compressed_file_that_is_cut(self, size: int, tmp_path: Path) -> None:
        path = tmp_path / "backup.gz"
        path.write_bytes(gzip.compress(SAMPLE.read_bytes(), 0)[:size])
        passphrase = SAMPLE_FILE.read_text().strip()
        with (
            gzip.open(path) as file,
            pytest.raises(QBackupError) as caught,
            qbackup.open(cast(BinaryIO, file), passphrase=passphrase) as archive,
        ):
            archive.verify()
        assert "reading the backup failed" in str(caught.value)


class TestNoFiles:
    @pytest.mark.parametrize(
        "thing", [None, 0, 5, True, 1.5, [], {}, object(), io.BytesIO, bytearray(b"x"), print]
    )
    def test_neither_a_path_nor_a_file(self, thing: Any) -> None:
        with pytest.raises(UsageError, match="a backup is a path or a binary file"):
            qbackup.open(thing)
        with pytest.raises(UsageError, match="an image is a path or a binary file"):
            qbackup.open_image(thing)

    def test_text_mode(self, tmp_path: Path) -> None:
        (tmp_path / "text").write_text("x" * 1000)
        with (tmp_path / "text").open() as text, codecs.open(str(SMALL), encoding="latin-1") as old:
            for file in (text, io.StringIO("x"), old):
                for function in (qbackup.open, qbackup.open_image):
                    with pytest.raises(UsageError, match="open it in binary mode"):
                        function(cast(Any, file))

    def test_one_that_is_open_for_writing(self, tmp_path: Path) -> None:
        with (
            (tmp_path / "new").open("wb") as file,
            pytest.raises(MachineError, match="reading the backup failed"),
        ):
            qbackup.open(cast(BinaryIO, file))


class TestImages:
    @pytest.mark.parametrize("name", ANSWERS)
    def test_an_answer_that_makes_no_sense_is_an_error(self, name: str) -> None:
        answer, error, text = ANSWERS[name]
        file = OddSeekable(answer)
        file.close = lambda: None  # type: ignore[attr-defined]
        with pytest.raises(error, match=text):
            qbackup.open_image(cast(BinaryIO, file))

    def test_an_end_that_is_no_number_is_an_error(self) -> None:
        class NoEnd(io.BytesIO):
            def seek(self, offset: int, whence: int = 0, /) -> Any:
                super().seek(offset, whence)
                return "end" if whence else offset

        with pytest.raises(MachineError, match=r"seek\(\) gives a str"):
            qbackup.open_image(NoEnd(b"x" * 5000))


class TestFunctions:
    def test_a_pipe_that_was_set_not_to_wait_is_waited_for(self) -> None:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        with open(reading, "rb", buffering=0) as file, open(writing, "wb", buffering=0) as end:
            end.write(b"data")
            buffer = bytearray(10)
            assert read_some(file, memoryview(buffer)) == 4
            end.close()
            assert read_piece(file, 5) == b""

    def test_the_length_of_an_object_that_only_knows_tell(self) -> None:
        class Old(io.BytesIO):
            def seek(self, offset: int, whence: int = 0, /) -> Any:
                super().seek(offset, whence)

        assert length_of(Old(b"12345")) == 5


class TestPassphrases:
    @pytest.mark.parametrize(
        "secret", [5, 0, 1.5, ["secret"], object(), bytearray(b"secret"), memoryview(b"secret")]
    )
    def test_what_is_neither_str_nor_bytes(self, secret: Any) -> None:
        for given in (secret, lambda: secret):
            with pytest.raises(UsageError, match="a str or bytes, not") as caught:
                qbackup.open(SMALL, passphrase=given)
            assert "secret" not in str(caught.value)
        with qbackup.open(SMALL) as backup:
            with pytest.raises(UsageError, match="a str or bytes, not"):
                backup.unlock(secret)
            backup.unlock(SMALL_SECRET)

    def test_a_callable_that_gives_none(self) -> None:
        with pytest.raises(UsageError, match="a str or bytes, not NoneType"):
            qbackup.open(SMALL, passphrase=cast(Any, lambda: None))
        with qbackup.open(SMALL) as backup, pytest.raises(UsageError, match="not NoneType"):
            backup.unlock(cast(Any, None))

    def test_a_callable_that_gives_another_one(self) -> None:
        with pytest.raises(UsageError, match="not function"):
            qbackup.open(SMALL, passphrase=cast(Any, lambda: lambda: SMALL_SECRET))
