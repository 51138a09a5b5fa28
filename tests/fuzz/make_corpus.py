"""Makes the committed corpus: `python -m tests.fuzz.make_corpus [DIR]`, from the project's folder.

`tests.fuzz.made` has inputs made by hand. Candidates for more come out of the backups in
`tests/vectors` and `tests/testkit/vectors`, taken apart by qbackup itself, and from DIR, where
`python -m tests.fuzz --corpus DIR` has kept what it came upon. Of them those are added, short ones
first, that reach a step from line to line in qbackup that no input before them did. What is there
stays: findings are there under names that say what they were.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import qbackup
from qbackup.archive.chunk import EncryptedChunks
from qbackup.base.errors import QBackupError
from qbackup.base.events import Data
from qbackup.base.limits import Limits
from qbackup.content.detect import NONE
from qbackup.content.filters import KNOWN_FILTERS, choose_filter
from qbackup.storage.scan import scan
from tests import fuzz
from tests.fuzz import backup, common, guard, made
from tests.fuzz.backup import Choices
from tests.maker.qubesxml import qubes_xml
from tests.support import vectorfiles
from tests.support.inside import inside
from tests.support.tarbytes import BLOCK
from tests.testkit import vector

_PRODUCT = str(Path(qbackup.__file__).parent)
_LONGEST = 8 * 1024  # of what is committed

Candidate = tuple[str, bytes]
Step = tuple[str, int, int]


def candidates() -> Iterator[Candidate]:
    """(harness, input) of all that the committed backups hold."""
    for name in vector.names():
        chosen = vector.load(name)
        yield from _of_backup(chosen.backup, chosen.passphrase)
    for name in vectorfiles.names():
        if "real-scrypt" not in name:  # seconds for each chunk
            secret = vectorfiles.load(name)["passphrase"].encode()
            yield from _of_backup(vectorfiles.backup_path(name).read_bytes(), secret)
    for data in made.outer_archives():
        yield "container", data
        yield "resync", data
    yield "metadata", qubes_xml([backup.WORK, backup.DOM0])


def _of_backup(data: bytes, passphrase: bytes) -> Iterator[Candidate]:
    members = common.drained(scan(common.seekable(data), Limits(), print, print))[0]
    for member in members:
        content = data[member.offset : member.offset + member.size]
        if member.name == "backup-header":
            yield "header", content
        elif content.startswith(b"scrypt"):
            yield "scrypt", content[: 96 + member.size % 100]
    with contextlib.suppress(QBackupError), _opened(data, passphrase) as opened:
        filter_ = opened.header.compression_filter
        for file in inside(opened).catalog.files():
            with contextlib.suppress(QBackupError):
                stream = b"".join(
                    _plain(chunk) for chunk in EncryptedChunks(file.chunks, inside(opened))
                )
                yield from _of_stream(file.path, filter_ or NONE, stream)


def _opened(data: bytes, passphrase: bytes) -> qbackup.BackupArchive:
    limits = Limits(scrypt_work=1 << 14)
    return qbackup.open(common.one_way(data), passphrase=passphrase, limits=limits)


def _plain(chunk: qbackup.EncryptedChunk) -> bytes:
    with chunk.open() as plaintext:
        return plaintext.read()


def _of_stream(path: str, filter_: str, stream: bytes) -> Iterator[Candidate]:
    known = KNOWN_FILTERS.index(filter_)
    yield "filters", bytes([known, len(stream) % 8]) + stream
    if filter_ in ("gzip", "pigz"):
        choices = Choices(place=_place(path), compressed=True, is_stream=True)
        yield "backup", bytes([choices.byte()]) + stream
    archive = bytearray()
    with contextlib.suppress(QBackupError):
        for piece in choose_filter(filter_, None, Limits())(iter([Data(memoryview(stream))])):
            archive += piece
            if len(archive) > _LONGEST:
                break
    yield from _of_archive(path, bytes(archive))


def _of_archive(path: str, archive: bytes) -> Iterator[Candidate]:
    if path == backup.METADATA:
        text = archive[BLOCK:].rstrip(b"\0")
        yield "metadata", text
        yield "backup", bytes([Choices(place=path).byte()]) + text
        return
    place = _place(path)
    yield ("tree" if place == backup.HOME else "inner"), _without_padding(archive)
    for number in range(0, 256, 4):
        choices = Choices.of(number)
        if choices.place == place and not choices.is_stream:
            yield "backup", bytes([choices.byte()]) + archive.replace(path.encode(), place.encode())


def _place(path: str) -> str:
    if path == backup.METADATA:
        return path
    return backup.HOME if path.startswith("dom0-home/") else backup.IMAGE


def _without_padding(archive: bytes) -> bytes:
    """An inner archive, cut behind two zero blocks."""
    content = len(archive.rstrip(b"\0"))
    return archive[: content + -content % BLOCK + 2 * BLOCK]


def steps(check: fuzz.Check, data: bytes) -> set[Step]:
    """Every step from line to line of qbackup that an input makes; none if it is a finding."""
    made: set[Step] = set()

    def trace(frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        name = frame.f_code.co_filename
        if not name.startswith(_PRODUCT):
            return None
        last = -1

        def line(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
            nonlocal last
            made.add((name, last, frame.f_lineno))
            last = frame.f_lineno
            return line

        return line

    threading.settrace(trace)
    sys.settrace(trace)
    try:
        check(data)
    except (Exception, guard.TooSlow) as error:
        print(f"a finding: {type(error).__name__}: {data[:40]!r} ({len(data)} bytes)")
        return set()
    finally:
        sys.settrace(None)
        threading.settrace(None)
    return made


def choose(name: str, inputs: set[bytes]) -> Iterator[bytes]:
    """Those that reach something new."""
    check = fuzz.load(name)
    known: set[Step] = set()
    for path in fuzz.corpus(name):
        known |= steps(check, path.read_bytes())
    longest = fuzz.HARNESSES[name]
    if name not in ("container", "resync"):  # which end on a whole record
        longest = min(_LONGEST, longest)
    for data in sorted((i for i in inputs if len(i) <= longest), key=lambda i: (len(i), i)):
        made = steps(check, data)
        if not made <= known:
            known |= made
            yield data


def main(folder: Path | None) -> None:
    """Adds what is worth it."""
    inputs: dict[str, set[bytes]] = {name: set() for name in fuzz.HARNESSES}
    for name, data in candidates():
        inputs[name].add(data)
    for name, found in inputs.items():
        place = fuzz.CORPUS / name
        place.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(made.inputs(name)):
            (place / f"made-{number:02}").write_bytes(data)
        if folder is not None and (folder / name).is_dir():
            found |= {path.read_bytes() for path in (folder / name).iterdir()}
        added = list(choose(name, found))
        for data in added:
            (place / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
        print(f"{name}: {len(added)} of {len(found)} added")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
