"""Streams of a file's content: every way to read one, and what they do when they meet damage."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

import qbackup
from qbackup import (
    BackupArchive,
    ChunkDamaged,
    ChunkMissing,
    Damaged,
    Interrupted,
    LimitExceeded,
    Limits,
    QBackupError,
)
from qbackup.crypto.kdf import Derivation
from tests.maker import (
    Member,
    assemble,
    drop,
    flip_byte,
)
from tests.support.librarybackup import (
    CHUNK,
    IMAGE,
    IMAGE_SIZE,
    KIB,
    LINES,
    NOISE,
    PASSPHRASE,
    TEXT,
    Made,
)


def verified(stream: BinaryIO) -> Any:
    """The stream with what it has beyond BinaryIO: read1, peek, complete."""
    return stream


class TestStreams:
    """One stream, in every way that Python knows to read one."""

    @pytest.fixture
    def stream(self, backup: BackupArchive) -> Iterator[Any]:
        with backup.open("personal/text") as stream:
            yield stream

    @pytest.fixture
    def image(self, backup: BackupArchive) -> Iterator[Any]:
        with backup.open("personal/private.img") as image:
            yield image

    def test_it_is_a_buffered_reader_and_not_seekable(self, stream: Any) -> None:
        assert issubclass(type(stream), io.BufferedIOBase)
        assert stream.readable()
        assert not stream.seekable()
        assert not stream.writable()
        refused: list[Callable[[], object]] = [
            lambda: stream.seek(0),
            lambda: stream.write(b""),
            stream.fileno,
            stream.detach,
        ]
        for call in refused:
            with pytest.raises(io.UnsupportedOperation):
                call()

    def test_read_in_pieces(self, image: Any) -> None:
        sizes = [1, 511, 512, 4095, 100_000, 7]
        data = b""
        for size in sizes:
            piece = image.read(size)
            assert len(piece) == size  # fewer only at the end
            data += piece
            assert image.tell() == len(data)
        assert data == IMAGE[: len(data)]
        assert image.read() == IMAGE[len(data) :]
        assert image.read() == image.read(1) == image.read(0) == b""
        assert image.tell() == IMAGE_SIZE

    @pytest.mark.parametrize("size", [-1, None])
    def test_read_everything(self, image: Any, size: int | None) -> None:
        assert image.read(size) == IMAGE

    def test_reading_more_than_there_is_gives_what_there_is(self, stream: Any) -> None:
        assert stream.read(1 << 40) == TEXT

    def test_reading_nothing_reads_nothing(
        self, stream: Any, derivations: list[Derivation]
    ) -> None:
        before = len(derivations)
        assert stream.read(0) == stream.read1(0) == b""
        assert stream.readinto(bytearray()) == stream.readinto1(bytearray()) == 0
        assert len(derivations) == before

    def test_read1_gives_what_is_at_hand(self, image: Any) -> None:
        data = b""
        while piece := image.read1(1000):
            assert len(piece) <= 1000
            data += piece
        assert data == IMAGE

    def test_read1_without_a_size(self, image: Any) -> None:
        assert b"".join(iter(image.read1, b"")) == IMAGE

    def test_readinto_fills_the_buffer(self, image: Any) -> None:
        buffer = bytearray(150_000)
        assert image.readinto(buffer) == 150_000
        assert buffer == IMAGE[:150_000]
        words = memoryview(bytearray(200_000)).cast("I")  # items of four bytes
        assert image.readinto(words) == IMAGE_SIZE - 150_000
        assert bytes(words)[: IMAGE_SIZE - 150_000] == IMAGE[150_000:]
        assert image.readinto(buffer) == 0

    def test_readinto1_gives_what_is_at_hand(self, image: Any) -> None:
        data, buffer = b"", bytearray(1000)
        while count := image.readinto1(buffer):
            data += buffer[:count]
        assert data == IMAGE

    def test_iteration_gives_lines(self, stream: Any) -> None:
        assert list(stream) == LINES

    def test_readline_and_readlines(self, stream: Any) -> None:
        assert stream.readline() == LINES[0]
        assert stream.readline(4) == LINES[1][:4]
        assert stream.readline() == LINES[1][4:]
        assert stream.readlines() == LINES[2:]
        assert stream.readline() == b""

    def test_peek_consumes_nothing(self, stream: Any) -> None:
        ahead = stream.peek(10)
        assert ahead and TEXT.startswith(ahead)
        assert stream.tell() == 0
        assert stream.read() == TEXT
        assert stream.peek() == b""

    def test_copyfileobj(self, image: Any) -> None:
        out = io.BytesIO()
        shutil.copyfileobj(image, out)
        assert out.getvalue() == IMAGE
        assert image.complete

    def test_tarfile(self, backup: BackupArchive) -> None:
        found = {}
        with (
            backup.open("personal/archive.tar") as stream,
            tarfile.open(fileobj=stream, mode="r|") as archive,
        ):
            for member in archive:
                content = archive.extractfile(member)
                assert content is not None
                found[member.name] = content.read()
        assert found == {"a": b"first", "b": NOISE}

    def test_text_io_wrapper(self, stream: Any) -> None:
        with io.TextIOWrapper(stream, encoding="utf-8", newline="") as text:
            assert text.readline() == LINES[0].decode()
            assert text.read() == b"".join(LINES[1:]).decode()
        assert stream.closed

    def test_buffered_reader(self, image: Any) -> None:
        buffered = io.BufferedReader(image, 1000)
        assert buffered.peek(1)[:1] == IMAGE[:1]
        assert buffered.read(5000) == IMAGE[:5000]
        assert buffered.read() == IMAGE[5000:]

    def test_hashlib(self, image: Any) -> None:
        digest = hashlib.sha256()
        while piece := image.read1():
            digest.update(piece)
        assert digest.digest() == hashlib.sha256(IMAGE).digest()

    def test_an_empty_file_is_complete_after_the_first_read(self, backup: BackupArchive) -> None:
        with backup.open("personal/empty") as stream:
            assert not verified(stream).complete
            assert stream.read() == b""
            assert verified(stream).complete

    def test_complete_is_true_only_when_the_end_was_seen(self, stream: Any) -> None:
        assert not stream.complete
        assert len(stream.read(len(TEXT))) == len(TEXT)
        # all bytes are handed out, and whether more should follow is not yet known
        assert stream.read(1) == b""
        assert stream.complete
        stream.close()
        assert stream.complete

    def test_a_stream_that_was_not_read_to_its_end_is_not_complete(self, stream: Any) -> None:
        stream.read(10)
        stream.close()
        assert not stream.complete

    def test_close_never_raises(self, backup: BackupArchive) -> None:
        for reads in (0, 10, 100_000, IMAGE_SIZE):
            stream = backup.open("personal/private.img")
            stream.read(reads)
            stream.close()
            stream.close()
            assert stream.closed
            with pytest.raises(ValueError, match="closed"):
                stream.read(1)
            with pytest.raises(ValueError, match="closed"):
                stream.tell()

    def test_a_stream_outlives_its_archive_only_as_an_error(self, made: Made) -> None:
        for owned in (True, False):
            source: Any = made.path if owned else made.path.open("rb")
            archive = qbackup.open(source, passphrase=PASSPHRASE)
            fresh, started = archive.open("personal/text"), archive.open("personal/text")
            assert started.read(10) == TEXT[:10]
            archive.close()
            if not owned:
                source.close()
            for stream in (fresh, started):
                with pytest.raises(Interrupted):
                    stream.read()
                stream.close()

    def test_read_everything_is_bounded_by_a_limit_that_names_itself(self, made: Made) -> None:
        limits = Limits(read_all=IMAGE_SIZE - 1)
        with (
            qbackup.open(made.path, passphrase=PASSPHRASE, limits=limits) as archive,
            archive.open("personal/private.img") as image,
        ):
            for _ in range(2):
                with pytest.raises(LimitExceeded, match=r"Limits\.read_all") as caught:
                    image.read()
                assert caught.value.limit == "read_all"
                assert image.tell() == 0
            assert image.read(1) == IMAGE[:1]  # nothing was consumed
            assert image.read() == IMAGE[1:]  # what is left is not too much

    def test_chunks_are_bounded_in_the_same_way(self, made: Made) -> None:
        limits = Limits(read_all=CHUNK - 1)
        with qbackup.open(made.path, passphrase=PASSPHRASE, limits=limits) as archive:
            chunk = next(iter(archive.file("vault/private.img").chunks))
            with chunk.open() as plaintext:
                with pytest.raises(LimitExceeded) as caught:
                    plaintext.read()
                assert caught.value.limit == "read_all"
                assert len(plaintext.read(1)) == 1
                assert len(plaintext.read()) == CHUNK - 1

    def test_several_at_once(self, backup: BackupArchive) -> None:
        names = {
            "personal/private.img": IMAGE,
            "personal/text": TEXT,
            "vault/private.img": NOISE,
        }
        streams = {name: backup.open(name) for name in names}
        read: dict[str, bytes] = dict.fromkeys(names, b"")
        while streams:
            for name in list(streams):  # by turns
                piece = streams[name].read(9000)
                read[name] += piece
                if not piece:
                    streams.pop(name).close()
        assert read == names

    def test_several_threads_each_with_its_own(self, backup: BackupArchive) -> None:
        contents = [("personal/private.img", IMAGE), ("vault/private.img", NOISE)] * 4

        def read(name: str) -> bytes:
            with backup.open(name) as stream:
                return b"".join(iter(lambda: stream.read(777), b""))

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(read, [name for name, _ in contents])) == [
                content for _, content in contents
            ]

    def test_the_same_file_may_be_opened_again(self, backup: BackupArchive) -> None:
        for _ in range(2):
            with backup.open("vault/private.img") as stream:
                assert stream.read() == NOISE


class TestDamagedStreams:
    """`b""` means the proven end; a read that meets damage raises, and so does every later one."""

    @pytest.fixture
    def open_damaged(self, made: Made, tmp_path: Path) -> Iterator[Callable[..., Any]]:
        with contextlib.ExitStack() as stack:

            def make(members: list[Member], name: str = "vault/private.img") -> Any:
                path = assemble(members, tmp_path / "damaged")
                archive = stack.enter_context(qbackup.open(path, passphrase=PASSPHRASE))
                return stack.enter_context(archive.open(name))

            yield make

    def test_not_one_byte_of_a_damaged_chunk_comes_out(
        self, made: Made, open_damaged: Callable[..., Any]
    ) -> None:
        # 8 KiB a chunk, the first 512 bytes are the inner header: chunk 3 begins at 24064
        stream = open_damaged(flip_byte(made.members, "vm2/private.img.003.enc", -1))
        given = b""
        with pytest.raises(ChunkDamaged) as caught:
            while piece := stream.read(1):
                given += piece
        assert given == NOISE[: 3 * CHUNK - 512]
        assert caught.value.chunk == "vm2/private.img.003"
        assert caught.value.file == "vault/private.img"

    def test_every_later_read_raises_too(
        self, made: Made, open_damaged: Callable[..., Any]
    ) -> None:
        stream = open_damaged(flip_byte(made.members, "vm2/private.img.003.enc", 200))
        with pytest.raises(ChunkDamaged):
            stream.read()
        for read in (
            stream.read,
            stream.read1,
            stream.peek,
            stream.readline,
            lambda: stream.read(1),
            lambda: stream.readinto(bytearray(1)),
            lambda: stream.readinto1(bytearray(1)),
            lambda: cast(bytes, next(stream)),
            lambda: shutil.copyfileobj(stream, io.BytesIO()),
        ):
            with pytest.raises(ChunkDamaged, match=r"private\.img\.003"):
                read()
        assert not stream.complete
        stream.close()
        stream.close()
        assert not stream.complete

    def test_a_read_across_the_damage_raises(
        self, made: Made, open_damaged: Callable[..., Any]
    ) -> None:
        stream = open_damaged(flip_byte(made.members, "vm2/private.img.001.enc", 100))
        with pytest.raises(ChunkDamaged):
            stream.read(20 * KIB)

    def test_damage_behind_the_content_shows_before_the_end(
        self, made: Made, open_damaged: Callable[..., Any]
    ) -> None:
        # the last chunk has nothing of the file: the end of the inner archive stands in it
        stream = open_damaged(flip_byte(made.members, "vm1/text.003.enc", 100), "personal/text")
        assert stream.read(len(TEXT)) == TEXT
        assert not stream.complete
        with pytest.raises(ChunkDamaged):
            stream.read(1)
        assert not stream.complete

    def test_a_missing_end_behind_the_content_shows(
        self, made: Made, open_damaged: Callable[..., Any]
    ) -> None:
        stream = open_damaged(drop(made.members, "vm1/text.003.enc"), "personal/text")
        assert stream.read(len(TEXT)) == TEXT
        for _ in range(2):
            with pytest.raises(Damaged, match="its end is missing"):
                stream.read()
        assert not stream.complete

    def test_a_missing_end_shows(self, made: Made, open_damaged: Callable[..., Any]) -> None:
        stream = open_damaged(drop(made.members, "vm2/private.img.006.enc"))
        assert stream.read(6 * CHUNK - 512) == NOISE[:-512]
        with pytest.raises(Damaged, match="cut off"):
            stream.read(1)
        assert not stream.complete

    def test_a_missing_middle_shows(self, made: Made, open_damaged: Callable[..., Any]) -> None:
        stream = open_damaged(drop(made.members, "vm2/private.img.002.enc"))
        with pytest.raises(ChunkMissing) as caught:
            stream.read()
        assert caught.value.chunk == "vm2/private.img.002"

    def test_damage_is_no_end_for_those_who_swallow_os_errors(
        self, made: Made, open_damaged: Callable[..., Any]
    ) -> None:
        stream = open_damaged(flip_byte(made.members, "vm2/private.img.000.enc", -1))
        assert not issubclass(QBackupError, OSError | EOFError | ValueError)
        with pytest.raises(ChunkDamaged), contextlib.suppress(OSError, EOFError, ValueError):
            stream.read()

    def test_tarfile_does_not_swallow_damage(
        self, made: Made, open_damaged: Callable[..., Any]
    ) -> None:
        members = flip_byte(made.members, "vm1/archive.tar.002.enc", -1)
        stream = open_damaged(members, "personal/archive.tar")
        with (
            pytest.raises(ChunkDamaged),
            tarfile.open(fileobj=stream, mode="r|") as archive,
        ):
            for member in archive:
                content = archive.extractfile(member)
                assert content is not None
                content.read()

    def test_text_io_wrapper_does_not_swallow_damage(
        self, made: Made, open_damaged: Callable[..., Any]
    ) -> None:
        stream = open_damaged(flip_byte(made.members, "vm1/text.002.enc", -1), "personal/text")
        text = io.TextIOWrapper(stream, encoding="utf-8")
        with pytest.raises(ChunkDamaged):
            text.read()
        text.close()
        assert stream.closed

    def test_each_damage_of_the_same_chunk_is_one_file_s(self, made: Made, tmp_path: Path) -> None:
        path = assemble(flip_byte(made.members, "vm2/private.img.000.enc", -1), tmp_path / "b")
        with qbackup.open(path, passphrase=PASSPHRASE) as archive:
            with archive.open("vault/private.img") as damaged, pytest.raises(ChunkDamaged):
                damaged.read()
            with archive.open("personal/private.img") as image:
                assert image.read() == IMAGE
