"""The outer archive: members, and the lists of files made of them, from a file and from a pipe."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from typing import Any, TypeAlias

from qbackup.base.errors import QBackupError
from qbackup.base.names import HEADER_NAME, ChunkName, encode
from qbackup.formats.v4 import NAMING
from qbackup.storage.catalog import PipeCatalog, SeekableCatalog
from qbackup.storage.catalog.common import classify
from qbackup.storage.scan import StoredMember, scan
from qbackup.storage.source import Source
from tests.fuzz.common import LIMITS, archives, blocks, drained, outcome, passing, seekable

#: path → chunk number → (offset, size)
Files: TypeAlias = dict[str, dict[int, tuple[int, int]]]


def check(data: bytes) -> None:
    """A file and a pipe list the same members, as tarfile does, and the same chunks."""
    for archive in archives(data):
        members, error = _check_scan(archive)
        if error is None:
            check_against_tarfile(archive, members)
        if members:
            _check_catalogs(archive, members)


def _check_scan(archive: bytes) -> tuple[list[StoredMember], QBackupError | None]:
    told: list[str] = []
    members, error = drained(scan(seekable(archive), LIMITS, told.append, told.append))
    told_of_pipe: list[str] = []
    tell = told_of_pipe.append
    again, other_error = drained(scan(passing(archive), LIMITS, tell, tell))
    assert members == again
    if _is_behind_zeros(error):
        assert other_error is None and "zeros follow, of which" in told_of_pipe[-1]
    else:
        assert told == told_of_pipe
        assert (type(error), str(error)) == (type(other_error), str(other_error))
    check_places(members)
    assert len(members) <= LIMITS.members
    if error is None:
        assert all(member.offset + member.size <= len(archive) for member in members)
    return members, error


def _is_behind_zeros(error: object) -> bool:
    """Tells if only the file shows what stands behind more zeros than the limit.

    A pipe can't be looked at there, and a warning says so instead of an error.
    """
    return "and something else at byte" in str(error)


def check_places(members: list[StoredMember]) -> None:
    """Members don't overlap, and each has a header in front of its data."""
    end = 0
    for member in members:
        assert member.offset % 512 == 0
        assert member.offset >= end + 512
        assert 0 <= member.size < 1 << 63
        assert len(encode(member.name)) <= LIMITS.name
        end = member.offset + member.size


def check_against_tarfile(archive: bytes, members: list[StoredMember]) -> None:
    """What is whole here is listed the same there, leaving out what tarfile reads in its own way:
    sparse members, the data of what is no file, and headers that it skips for their owner or mode.
    """
    opinion = tarfile_members(archive, ignore_zeros=True)
    if opinion is None or not all(m.type in (b"0", b"\0") for m in opinion):
        return
    if not all(_is_read_by_tarfile(archive[m.offset - 512 : m.offset]) for m in members):
        return
    listed = [(encode(m.name).rstrip(b"/"), m.offset, m.size) for m in members]
    other = [(encode(m.name).rstrip(b"/"), m.offset_data, m.size) for m in opinion]
    assert listed == other


def _is_read_by_tarfile(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


def tarfile_members(
    archive: bytes, *, ignore_zeros: bool = False, sparse: bool = False
) -> list[tarfile.TarInfo] | None:
    """The standard library's list; None where it has none, or reads something else on purpose."""
    if b"hdrcharset" in archive or (not sparse and b"GNU.sparse." in archive):
        return None
    if any(_has_no_prefix(block) and block[345] for block in blocks(archive)):
        return None  # tarfile takes what stands there for a part of the name, GNU tar does not
    file = io.BytesIO(archive)
    try:
        with tarfile.open(fileobj=file, mode="r:", ignore_zeros=ignore_zeros) as opened:
            return opened.getmembers()
    except (tarfile.TarError, ValueError, OverflowError, EOFError, UnicodeError):
        return None


def _has_no_prefix(block: bytes) -> bool:
    """Old GNU headers, and those whose magic is nobody's."""
    return block[257:262] == b"ustar" and block[262:263] != b"\0"


def _check_catalogs(archive: bytes, members: list[StoredMember]) -> None:
    if members[0].name != HEADER_NAME:  # packed again or damaged: members are named anew there
        outcome(lambda: _listed(SeekableCatalog.opened, seekable(archive)))
        outcome(lambda: _listed(PipeCatalog, passing(archive)))
        return
    expected = _files(members[1:])
    catalog, found = _listed(SeekableCatalog.opened, seekable(archive))
    assert list(found) == list(expected)
    assert found == {path: dict(sorted(chunks.items())) for path, chunks in expected.items()}
    pipe, passed = _listed(PipeCatalog, passing(archive))
    assert [path for path in expected if path in passed] == list(passed)
    for path, chunks in passed.items():
        assert chunks.items() <= expected[path].items()
        assert list(chunks) == sorted(chunks)
    if pipe.error is None:
        assert passed == found
    if not _is_behind_zeros(catalog.error):
        assert (catalog.error is None) or (pipe.error is not None)


def _files(members: list[StoredMember]) -> Files:
    """The first chunk of each number, said in the plainest way."""
    files: Files = {}
    for member in members:
        name = classify(member, NAMING, lambda text: None)
        if isinstance(name, ChunkName):
            files.setdefault(name.path, {}).setdefault(name.index, (member.offset, member.size))
    return files


def _listed(kind: Callable[..., Any], source: Source) -> tuple[Any, Files]:
    catalog = kind(source, LIMITS, lambda text: None, NAMING)
    found: Files = {}
    for file in catalog.files():
        places = found[file.path] = {}
        for chunk in file.chunks:
            assert chunk.name == str(ChunkName(file.path, chunk.index))
            places[chunk.index] = (chunk.offset, chunk.size)
    outcome(catalog.header_copy)
    return catalog, found
