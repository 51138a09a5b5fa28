"""One stored chunk: its bytes are read when they are asked for, within the limits, and once."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import lzma
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

import qbackup
from qbackup import BackupArchive
from qbackup.archive.chunk import EncryptedChunk, EncryptedChunks
from qbackup.base.errors import AlreadyPassed, ChunkDamaged, LimitExceeded, UsageError
from qbackup.base.limits import Limits
from qbackup.base.names import ChunkName
from qbackup.storage.chunk import StoredChunk
from qbackup.storage.source import PipeSource, Source, open_source
from tests.support import vectorfiles
from tests.support.inside import inside
from tests.support.sources import Failing, piped
from tests.support.tarbytes import member

BEFORE, CONTENT, BEHIND = b"before", bytes(range(200)), b"behind"
STORED = BEFORE + CONTENT + BEHIND
HEAD = 96


def file() -> Source:
    return open_source(io.BytesIO(STORED))


def pipe() -> Source:
    return PipeSource(io.BytesIO(STORED), owned=False)


def chunk(
    source: Source,
    size: int = len(CONTENT),
    *,
    name: str = "vm1/private.img",
    index: int = 0,
    limits: Limits | None = None,
) -> StoredChunk:
    """A chunk of this size behind BEFORE; it is not opened here, only read."""
    limit = (limits or Limits()).chunk
    return StoredChunk(ChunkName(name, index), len(BEFORE), size, source=source, limit=limit)


class TestReading:
    @pytest.mark.parametrize("make", [file, pipe])
    def test_head_and_body_are_all_of_it(self, make: Any) -> None:
        one = chunk(make())
        assert one.read_head(HEAD) == CONTENT[:HEAD]
        assert one.read_body(HEAD) == CONTENT[HEAD:]

    def test_one_shorter_than_its_head_takes_nothing_from_behind_it(self) -> None:
        one = chunk(file(), 50)
        assert one.read_head(HEAD) == CONTENT[:50]
        assert bytes(one.read_body(HEAD)) == b""

    def test_from_a_file_it_can_be_read_again(self) -> None:
        one = chunk(file())
        assert one.read_body(HEAD) == one.read_body(HEAD) == CONTENT[HEAD:]

    def test_on_a_pipe_it_goes_by_once(self) -> None:
        one = chunk(pipe(), name="vm1/\x1b")
        one.read_body(HEAD)
        with pytest.raises(AlreadyPassed, match="already passed") as caught:
            one.read_body(HEAD)
        assert caught.value.chunk == "vm1/\\x1b.000"

    @pytest.mark.parametrize("make", [file, pipe])
    def test_one_that_the_archive_ends_in_is_damaged(self, make: Any) -> None:
        one = chunk(make(), len(CONTENT + BEHIND) + 1, name="vm1/\x1b")
        with pytest.raises(ChunkDamaged, match="archive ends inside") as caught:
            one.read_body(0)
        assert caught.value.chunk == "vm1/\\x1b.000"

    def test_what_the_drive_says_is_told_of_the_chunk(self, tmp_path: Path) -> None:
        (tmp_path / "backup").write_bytes(STORED)
        drive = Failing(tmp_path / "backup", range(len(BEFORE), len(STORED)))
        one = chunk(open_source(cast(Any, drive)), name="vm1/\x1b")
        with pytest.raises(ChunkDamaged, match="Input/output error") as caught:
            one.read_head(HEAD)
        assert caught.value.chunk == "vm1/\\x1b.000"

    @pytest.mark.parametrize("part", ["read_head", "read_body"])
    def test_one_larger_than_the_limit_is_not_read(self, part: str) -> None:
        exact = Limits(chunk=len(CONTENT))
        assert getattr(chunk(file(), limits=exact), part)(0) is not None
        less = Limits(chunk=len(CONTENT) - 1)
        with pytest.raises(LimitExceeded, match="200 bytes, more than the 199") as caught:
            getattr(chunk(file(), name="vm1/\x1b", limits=less), part)(0)
        assert (caught.value.limit, caught.value.chunk) == ("chunk", "vm1/\\x1b.000")

    def test_is_shown_with_its_name_made_visible(self) -> None:
        stored = chunk(file(), 5, name="\x1b")
        assert repr(stored) == "<StoredChunk \\x1b.000 of 5 bytes>"
        shown = repr(EncryptedChunk(stored, cast(Any, None)))
        assert shown == "<EncryptedChunk \\x1b.000 of 5 bytes>"

    def test_who_wants_to_know_is_told_which_one_took_its_place(self) -> None:
        one, other = chunk(file()), chunk(file(), index=1)
        one.use(other)
        used: list[object] = []
        one.on_use = used.append
        one.use(other)
        assert used == [other]


SCRYPT, HMAC = "xz-many-chunks", "v3-raw-exact-chunks"


@contextlib.contextmanager
def opened(name: str, source: object = None, **options: Any) -> Iterator[BackupArchive]:
    """A committed backup, or another source in its place."""
    way = cast(BinaryIO, source or vectorfiles.backup_path(name))
    passphrase = vectorfiles.load(name)["passphrase"]
    with qbackup.open(way, passphrase=passphrase, **options) as archive:
        yield archive


def chunks_of(archive: BackupArchive, path: str = "vm1/private.img") -> list[EncryptedChunk]:
    found = inside(archive).catalog.find(path)
    assert found is not None
    return list(EncryptedChunks(found.chunks, inside(archive)))


def stored_at(name: str, member: str) -> range:
    """Where this member is in a committed backup, its headers and padding left out."""
    with tarfile.open(vectorfiles.backup_path(name), ignore_zeros=True) as tar:
        info = tar.getmember(member)
    return range(info.offset_data, info.offset_data + info.size)


def described(stream: bytes) -> dict[str, object]:
    """The one file of an inner archive, as the descriptions have it; by the standard library."""
    plain = stream
    if stream.startswith(b"\x1f\x8b"):
        plain = gzip.decompress(stream)
    elif stream.startswith(b"\xfd7zXZ"):
        plain = lzma.decompress(stream)
    assert len(plain) % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        content = tar.extractfile(tar.getmembers()[0])
        assert content is not None
        data = content.read()
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def without(name: str, member: str) -> io.BytesIO:
    """A committed backup without one of its members."""
    data = vectorfiles.backup_path(name).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(data), ignore_zeros=True) as tar:
        begins = {info.name: info.offset for info in tar}
    start = begins[member]
    end = min((begin for begin in begins.values() if begin > start), default=len(data))
    return io.BytesIO(data[:start] + data[end:])


class TestOpenedAlone:
    """Chunks of committed backups, each opened by itself."""

    @pytest.mark.parametrize(
        ("name", "path"),
        [
            (SCRYPT, "vm1/private.img"),
            (HMAC, "vm1/private.img"),
            ("v3-gzip-many-chunks", "vm5/icon.png"),
            ("v3-plain-gzip", None),
            ("v2-standalone", "vm1/root.img"),
        ],
    )
    def test_together_they_are_the_files_inner_archive(self, name: str, path: str | None) -> None:
        path = path or vectorfiles.load(name)["files"][0]["stored_name"]
        (said,) = (f for f in vectorfiles.load(name)["files"] if f["stored_name"] == path)
        with opened(name) as archive:
            chunks = chunks_of(archive, path)
            assert len(chunks) == said["chunks"]
            # in any order: none needs what another one left behind
            parts = {chunk.index: chunk.open().read() for chunk in reversed(chunks)}
        stream = b"".join(parts[index] for index in sorted(parts))
        assert described(stream) == {key: said[key] for key in ("size", "sha256")}

    @pytest.mark.parametrize(("name", "overhead"), [(SCRYPT, 128), (HMAC, 0)])
    def test_no_more_than_the_limit_is_returned_at_once(self, name: str, overhead: int) -> None:
        with opened(name) as archive:
            second = chunks_of(archive)[1]
            size = second.size - overhead
            assert len(second.open().read()) == size
        with opened(name, limits=Limits(read_all=size)) as archive:
            assert len(chunks_of(archive)[1].open().read()) == size
        with opened(name, limits=Limits(read_all=size - 1)) as archive:
            with pytest.raises(LimitExceeded, match=f"{size} bytes") as caught:
                chunks_of(archive)[1].open().read()
            assert caught.value.limit == "read_all"

    @pytest.mark.parametrize(("name", "suffix"), [(SCRYPT, ".enc"), (HMAC, "")])
    def test_one_that_was_altered_gives_nothing(self, name: str, suffix: str) -> None:
        data = bytearray(vectorfiles.backup_path(name).read_bytes())
        data[stored_at(name, f"vm1/private.img.002{suffix}")[-1]] ^= 1
        with opened(name, io.BytesIO(data)) as archive:
            stream = chunks_of(archive)[2].open()
            for _ in range(2):
                with pytest.raises(ChunkDamaged, match="MAC") as caught:
                    stream.read(1)
                assert caught.value.chunk == "vm1/private.img.002"

    @pytest.mark.parametrize(("name", "suffix"), [(SCRYPT, ".enc"), (HMAC, "")])
    def test_an_empty_one_that_somebody_added_is_damaged(self, name: str, suffix: str) -> None:
        data = vectorfiles.backup_path(name).read_bytes()
        data += member(f"vm1/added.000{suffix}".encode())
        with opened(name, io.BytesIO(data)) as archive:
            (added,) = chunks_of(archive, "vm1/added")
            with pytest.raises(ChunkDamaged) as caught:
                added.open().read()
            assert caught.value.chunk == "vm1/added.000"

    def test_one_that_needs_another_one_says_which_is_missing(self) -> None:
        lost = "vm1/private.img.001"
        with opened(HMAC, without(HMAC, lost)) as archive:
            chunks = {chunk.index: chunk for chunk in chunks_of(archive)}
            assert chunks.keys() == {0, 2, 3}
            assert chunks[0].open().read()
            with pytest.raises(ChunkDamaged, match="without chunk 001, which is missing") as caught:
                chunks[2].open().read()
            assert caught.value.chunk == "vm1/private.img.002"

    def test_from_a_pipe_one_that_needs_others_says_so(self) -> None:
        qube = vectorfiles.load(HMAC)["files"][0]["qube"]
        with piped(vectorfiles.backup_path(HMAC)) as pipe, opened(HMAC, pipe) as archive:
            chunks = iter(archive.file(f"{qube}/private.img").chunks)
            assert next(chunks).open().read()
            with pytest.raises(
                UsageError, match="from a pipe this chunk can't be opened alone"
            ) as caught:
                next(chunks).open().read()
            assert caught.value.chunk == "vm1/private.img.001"

    def test_one_whose_proof_can_not_be_read_is_damaged(self) -> None:
        proof = stored_at(HMAC, "vm1/private.img.001.hmac")
        drive = Failing(vectorfiles.backup_path(HMAC), proof)
        with opened(HMAC, drive) as archive:
            first, second, *_ = chunks_of(archive)
            assert first.open().read()
            with pytest.raises(ChunkDamaged, match="Input/output error") as caught:
                second.open().read()
            assert caught.value.chunk == "vm1/private.img.001"

    def test_says_what_its_key_costs_where_scrypt_derives_one(self) -> None:
        with opened(SCRYPT) as archive:
            assert {chunk.parameters.p for chunk in chunks_of(archive)} == {1}
        with (
            opened(HMAC) as archive,
            pytest.raises(UsageError, match="no key is derived") as caught,
        ):
            _ = chunks_of(archive)[1].parameters
        assert caught.value.chunk == "vm1/private.img.001"
