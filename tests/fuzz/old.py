"""A whole backup of format 3 or 2 around the input, with right HMACs, so that all behind them is
reached.

The input is two bytes of choices, and then what stands in one file of the backup: before or after
compression, or as it is stored. `whole` says what must come of it; and where nothing is lost,
encryption, compression and chunks change nothing; where something is, what is left is right.
"""

from __future__ import annotations

import gzip
import io
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.formats import v3
from tests.fuzz import backup, enc, volumecut
from tests.fuzz.backup import HOME, IMAGE, METADATA
from tests.fuzz.common import with_checksums
from tests.fuzz.tree import scratch
from tests.fuzz.whole import PASSPHRASE, Whole, is_part, without_lists
from tests.maker.collection import collection_xml
from tests.support.restored import statuses
from tests.support.tarbytes import archive, header, member, padded

FOLDER = "vm9/."
#: Which file the input stands in.
PLACES = (IMAGE, HOME, METADATA, FOLDER)
FORMATS = ("3", "2", "2, no header", "2, no header, zlib")
_NAMES = {IMAGE: "work/private.img", HOME: "dom0/user", METADATA: "qubes.xml", FOLDER: "fedora/."}
_CHUNKS = (1, 2, 3, 7)
DAMAGE = ("last", "first", "second", "no proof")
_CHEAP = ScryptParameters(1, 1, 1)
FEDORA = replace(backup.WORK, name="fedora", qid=9, klass="TemplateVM", backup_path="vm9/")
WORK = replace(backup.WORK, template=FEDORA.name)
DOCUMENT = collection_xml([backup.DOM0, WORK, FEDORA])


@dataclass(frozen=True)
class Choices:
    """What the first two bytes say.

    Args:
        place: which file the rest stands in.
        chunks: into how many it is cut.
        compressed: with gzip.
        is_stream: the rest is what gzip made; else it is compressed here.
        lost: a chunk's HMAC is wrong, or missing.
        keep: what is left of a damaged file is kept.
        format: one of `FORMATS`.
        encrypted: with openssl.
        is_stored: the rest is what is stored; else it is encrypted here.
        aligned: chunks of format 3 end where a block of the cipher does.
        has_seams: volumes of format 2 get their headers here; else the rest has them.
        damage: which chunk is lost.
    """

    place: str = IMAGE
    chunks: int = 1
    compressed: bool = False
    is_stream: bool = False
    lost: bool = False
    keep: bool = False
    format: str = "3"
    encrypted: bool = False
    is_stored: bool = False
    aligned: bool = False
    has_seams: bool = False
    damage: str = "last"

    @classmethod
    def of(cls, first: int, second: int) -> Choices:
        compressed, is_stream, lost, keep = (bool(first >> bit & 1) for bit in range(4, 8))
        encrypted, is_stored, aligned, has_seams = (bool(second >> bit & 1) for bit in range(2, 6))
        return cls(
            place=PLACES[first & 3],
            chunks=_CHUNKS[first >> 2 & 3],
            compressed=compressed,
            is_stream=is_stream,
            lost=lost,
            keep=keep,
            format=FORMATS[second & 3],
            encrypted=encrypted,
            is_stored=is_stored,
            aligned=aligned,
            has_seams=has_seams,
            damage=DAMAGE[second >> 6],
        )

    def bytes(self) -> bytes:
        """The bytes that say this."""
        ends = (self.compressed, self.is_stream, self.lost, self.keep)
        middle = (self.encrypted, self.is_stored, self.aligned, self.has_seams)
        first = PLACES.index(self.place) | _CHUNKS.index(self.chunks) << 2
        second = FORMATS.index(self.format) | DAMAGE.index(self.damage) << 6
        first |= sum(flag << bit for bit, flag in enumerate(ends, 4))
        return bytes([first, second | sum(flag << bit for bit, flag in enumerate(middle, 2))])

    @property
    def has_header(self) -> bool:
        return self.format in ("3", "2")

    @property
    def is_plain(self) -> bool:
        """Whether what comes out depends on the content only."""
        return self.format == "3" and not (self.is_stored or self.is_stream or self.lost)


def check(data: bytes) -> None:
    """What a restore says is true, and a second way to read says the same."""
    if len(data) < 2:
        return
    choices = Choices.of(data[0], data[1])
    way = zlib.crc32(data)
    whole = _whole(choices, data[2:])
    with mock.patch.object(v3, "JOURNAL_COST", _CHEAP):
        if choices.is_plain and way % 4 == 3:
            _check_plain(whole, _whole(_plain(choices), data[2:]))
        elif compares_rest(data):
            _check_rest(whole, _whole(replace(choices, lost=False), data[2:]))
        else:
            whole.check(way)


def compares_rest(data: bytes) -> bool:
    """Whether an input is tried with nothing lost too, to compare what is left otherwise."""
    choices = Choices.of(data[0], data[1])
    is_kept = choices.lost and choices.keep and choices.place == IMAGE
    return is_kept and bool(zlib.crc32(data) & 1)


def _plain(choices: Choices) -> Choices:
    return Choices(place=choices.place, keep=choices.keep)


def _check_plain(whole: Whole, plain: Whole) -> None:
    """How it was stored changes nothing."""
    with tempfile.TemporaryDirectory(prefix="qbackup-fuzz-", dir=scratch()) as name:
        one, other = Path(name, "one"), Path(name, "other")
        report = whole.restored(io.BytesIO(whole.stored), one)
        expected = plain.restored(io.BytesIO(plain.stored), other)
        assert statuses(report) == statuses(expected)
        assert without_lists(one) == without_lists(other)


def _check_rest(damaged: Whole, sound: Whole) -> None:
    """What is left of an image is what it has where nothing is lost."""
    with tempfile.TemporaryDirectory(prefix="qbackup-fuzz-", dir=scratch()) as name:
        one, other = Path(name, "one"), Path(name, "other")
        label = _NAMES[IMAGE]
        report = damaged.restored(io.BytesIO(damaged.stored), one)
        whole = sound.restored(io.BytesIO(sound.stored), other)
        (result,) = (file for file in report.files if f"{file.qube}/{file.name}" == label)
        assert result.status == "damaged"
        if statuses(whole)[label] == "ok" and result.kept_as and not result.unplaced:
            left = (one / result.qube / result.kept_as).read_bytes()
            assert is_part(left, result, (other / label).read_bytes())


def _whole(choices: Choices, data: bytes) -> Whole:
    return Whole(
        archive(*_backup(choices, data)),
        _NAMES,
        choices.place,
        IMAGE,
        choices.lost,
        choices.keep,
        may_be_refused=choices.place == METADATA and not choices.has_header,
    )


def _backup(choices: Choices, data: bytes) -> Iterator[bytes]:
    if choices.has_header:
        text = _header(choices)
        yield _member(b"backup-header", text)
        yield _member(b"backup-header.hmac", enc.proof(text, PASSPHRASE, _digest(choices)))
    contents = {
        METADATA: member(METADATA.encode(), DOCUMENT),
        IMAGE: member(IMAGE.encode(), b"image"),
        HOME: archive(header(HOME.encode() + b"/", kind=b"5", mode=0o700)),
        FOLDER: archive(header(b"vm9/./", kind=b"5", mode=0o700)),
    }
    for path, content in contents.items():
        chosen = replace(choices, is_stream=False, is_stored=False, has_seams=True, lost=False)
        if path == choices.place:
            chosen, content = choices, _content(choices, data)
        yield from _members(path, chosen, _chunks(chosen, content))


def _header(choices: Choices) -> bytes:
    lines = [b"version=%s" % choices.format[:1].encode()]
    lines += [b"hmac-algorithm=" + _digest(choices).upper().encode()]
    lines += [b"crypto-algorithm=" + enc.USUAL.encode()]
    lines += [b"encrypted=%s" % str(choices.encrypted).encode()]
    lines += [b"compressed=%s" % str(choices.compressed).encode()]
    lines += [b"compression-filter=gzip"] if choices.compressed else []
    return b"".join(line + b"\n" for line in lines)


def _digest(choices: Choices) -> str:
    return "sha512" if choices.format == "3" else "sha1"


def _content(choices: Choices, data: bytes) -> bytes:
    if choices.is_stored or (choices.compressed and choices.is_stream):
        return data
    if choices.place == METADATA:
        return archive(header(METADATA.encode(), size=len(data)), padded(data))
    return with_checksums(data)


def _chunks(choices: Choices, content: bytes) -> list[bytes]:
    """As they are stored."""
    if choices.format == "3":
        return volumecut.split(_stored(choices, content), choices.chunks, 1 + 15 * choices.aligned)
    if choices.is_stored or (choices.compressed and choices.is_stream):
        parts = volumecut.split(content, choices.chunks)
    elif choices.has_seams:
        parts = volumecut.cut(content, choices.chunks)
    else:
        parts = volumecut.split(content, choices.chunks, 512)
    return [_stored(choices, part) for part in parts]


def _stored(choices: Choices, data: bytes) -> bytes:
    if choices.is_stored:
        return data
    if choices.compressed and not choices.is_stream:
        data = gzip.compress(data, 1, mtime=0)
    if choices.encrypted:
        data = enc.encrypted(data, PASSPHRASE)
    return zlib.compress(data, 1) if choices.encrypted and "zlib" in choices.format else data


def _members(path: str, choices: Choices, chunks: list[bytes]) -> Iterator[bytes]:
    lost = {"first": 0, "second": min(1, len(chunks) - 1)}.get(choices.damage, len(chunks) - 1)
    for index, chunk in enumerate(chunks):
        name = f"{path}.{index:03d}".encode()
        yield _member(name, chunk)
        is_lost = choices.lost and index == lost
        if not is_lost or choices.damage != "no proof":
            proof = enc.proof(chunk + b"x" * is_lost, PASSPHRASE, _digest(choices))
            yield _member(name + b".hmac", proof)


def _member(name: bytes, data: bytes) -> bytes:
    return header(name, size=len(data)) + padded(data)
