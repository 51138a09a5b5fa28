"""A whole backup whose outer archive was damaged, opened for salvage.

The input says what is done to it: a byte for what stands in the file, the backup, an older one of
the same qubes with the same passphrase before or behind it; then edits, see `_edit`. Nobody who
edits knows a key. So whatever comes out under a final name, and each range that is called good, is
what one of the two backups had; and what was passed over is never a success.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import qbackup
from qbackup import FileResult, Incomplete, Report
from qbackup.base.errors import QBackupError
from qbackup.restore.damage_map import parse_lost
from tests.fuzz import backup, seal
from tests.fuzz.common import LIMITS, outcome, with_checksums
from tests.fuzz.tree import scratch
from tests.fuzz.whole import PASSPHRASE, is_part
from tests.maker.qubesxml import qubes_xml
from tests.support.restored import statuses
from tests.support.tarbytes import BLOCK, ZEROS, archive, header, padded

_LIMITS = replace(LIMITS, file_size=1 << 20)
_HEADER, _COPY = b"backup-header", b"backup-header.hmac"
_CHUNK = 800  # of an image, in bytes


@dataclass(frozen=True)
class Made:
    """One backup.

    Args:
        stored: its bytes, without the zeros at the end.
        archives: path → the inner archive.
        files: what a restore leaves.
    """

    stored: bytes
    archives: Mapping[str, bytes]
    files: Mapping[str, bytes]


def _make(id_: bytes, image: bytes, *, compressed: bool) -> Made:
    said = b"True\ncompression-filter=gzip" if compressed else b"False"
    text = b"version=4\nencrypted=True\ncompressed=%s\nbackup-id=%s\n" % (said, id_)
    copy = seal.encrypted(text, seal.key_for(b"backup-header!" + PASSPHRASE))
    document = qubes_xml([backup.DOM0, backup.WORK])
    archives = {
        backup.METADATA: _entry(backup.METADATA.encode(), document),
        backup.IMAGE: _entry(backup.IMAGE.encode(), image),
        backup.HOME: header(backup.HOME.encode() + b"/", kind=b"5", mode=0o700)
        + _entry(backup.HOME.encode() + b"/one", id_)
        + _entry(backup.HOME.encode() + b"/two", image[:300]),
    }
    archives = {path: content + 2 * ZEROS for path, content in archives.items()}
    parts = [_entry(_HEADER, text), _entry(_COPY, copy)]
    for path, content in archives.items():
        stream = gzip.compress(content, 1, mtime=0) if compressed else content
        size = _CHUNK if path == backup.IMAGE else len(stream)
        for index, start in enumerate(range(0, len(stream), size)):
            name = f"{path}.{index:03d}".encode()
            key = seal.key_for(b"!".join((id_, name, PASSPHRASE)))
            sealed = seal.encrypted(stream[start : start + size], key)
            parts.append(_entry(name + b".enc", sealed))
    files = {
        "qubes.xml": document,
        "work/private.img": image,
        "dom0/user/one": id_,
        "dom0/user/two": image[:300],
    }
    return Made(b"".join(parts), archives, files)


def _entry(name: bytes, data: bytes) -> bytes:
    return header(name, size=len(data)) + padded(data)


def _noise(seed: bytes) -> bytes:
    """Of an image: bytes that gzip leaves long."""
    return hashlib.shake_128(seed).digest(1500)


NEW = _make(b"20240917T101112-1", _noise(b"new"), compressed=False)
OLD = _make(b"20230917T101112-1", _noise(b"old"), compressed=True)
BACKUPS = (NEW, OLD)
#: What stands in the file.
BASES = (
    NEW.stored,
    OLD.stored,
    OLD.stored + NEW.stored,
    NEW.stored + OLD.stored,
    NEW.stored + NEW.stored,
)
_MIXED = (2, 3)  # of these: two backups
#: The names that files have where qubes.xml can't be used.
_BY_PATH = {"vm1/": "work/", "dom0-home/": "dom0/"}


def check(data: bytes) -> None:
    """Whatever comes out was in a backup, and only a whole one reads as such."""
    edited = _edited(data)
    sealed = _with_seals(edited)
    is_mixed = bool(data) and data[0] % len(BASES) in _MIXED
    for stored in (edited,) if sealed == edited else (edited, sealed):
        _check(stored, is_mixed=is_mixed, is_edited=len(data) > 1)


def _edited(data: bytes) -> bytes:
    content = bytearray(BASES[data[0] % len(BASES)] if data else NEW.stored)
    content[:] = archive(bytes(content))
    rest = data[1:]
    while len(rest) >= 4:
        rest = _edit(content, rest)
    return bytes(content)


def _edit(content: bytearray, data: bytes) -> bytes:
    """One edit: what, where (2 bytes), how much; and for some the bytes that are put there.

    The highest bit says that place and size are in blocks of a tar archive. Returns what is left.
    """
    unit = BLOCK if data[0] & 128 else 1
    place = int.from_bytes(data[1:3], "big") * unit % (len(content) + 1)
    size, rest = data[3] * unit, data[4:]
    kind = data[0] & 7
    if kind == 0:
        content[place : place + len(rest[: data[3]])] = rest[: data[3]]
    elif kind == 1:
        content[place:place] = rest[: data[3]]
    elif kind == 2:
        del content[place : place + size]
    elif kind == 3:
        end = min(len(content), place + size)
        content[place:end] = bytes(end - place)
    elif kind == 4:
        del content[place:]
    elif kind == 5:
        source = int.from_bytes(rest[:2], "big") * unit % (len(content) + 1)
        content[place:place] = content[source : source + size]
        return rest[2:]
    elif place < len(content):
        content[place] ^= data[3]
    return rest[data[3] :] if kind < 2 else rest


def _with_seals(data: bytes) -> bytes:
    """With right checksums in tar headers and in those of scrypt, which need no key."""
    content = bytearray(with_checksums(data))
    for place in range(0, len(content) - seal.DATA_AT, BLOCK):
        if content[place : place + 7] == b"scrypt\0":
            end = place + seal.CHECKSUM_AT
            content[end : end + 16] = hashlib.sha256(content[place:end]).digest()[:16]
    return bytes(content)


def _check(stored: bytes, *, is_mixed: bool, is_edited: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="qbackup-fuzz-", dir=scratch()) as name:
        out = Path(name, "out")
        report = outcome(lambda: _restored(stored, out, salvage=True))
        if isinstance(report, QBackupError):
            assert not os.listdir(name)
            return
        assert os.listdir(name) == ["out"]
        assert len(report.files) <= _LIMITS.members
        made = next((made for made in BACKUPS if _is_of(made, report, out)), None)
        assert made is not None, statuses(report)
        assert not (report.ok and is_mixed and not is_edited)
        if report.ok:
            assert _read(out) == made.files
        if report.ok or zlib.crc32(stored) % 8 == 0:  # it takes as long
            strict = outcome(lambda: _restored(stored, Path(name, "strict"), salvage=False))
            if isinstance(strict, Report) and strict.ok:  # which sees no second backup
                assert report.ok or is_mixed or _begins_elsewhere(report)
            else:
                assert not report.ok, strict


def _begins_elsewhere(report: Report) -> bool:
    """Tells if all is said to be whole, but for what stands in front of the header.

    Salvage names that as a fault. Without it, a member that no backup has is passed over with a
    warning, wherever it stands.
    """
    return not report.bad and all("not with its header" in error for error in report.errors)


def _restored(stored: bytes, out: Path, *, salvage: bool) -> Report:
    """What is said; it returns without raising where all is well, and only there."""
    source = io.BytesIO(stored)
    with qbackup.open(
        source, passphrase=PASSPHRASE, limits=_LIMITS, jobs=2, salvage=salvage
    ) as opened:
        try:
            report = opened.restore(out, keep_damaged=salvage)
        except Incomplete as error:
            assert isinstance(error.report, Report)
            assert not error.report.ok
            return error.report
        assert report.ok
        assert not opened.salvaged
        return report


def _is_of(made: Made, report: Report, out: Path) -> bool:
    """Whether all that came out is of this backup."""
    results = {_label(result): result for result in report.files}
    kept = {label for label, result in results.items() if result.kept_as}
    left = _read(out)
    for path, content in left.items():
        name = _named(path)
        if name.endswith(".damaged.map") and name.removesuffix(".damaged.map") in kept:
            continue
        if name.endswith(".damaged.json") and name.removesuffix(".damaged.json") in kept:
            result = results[name.removesuffix(".damaged.json")]
            lost = [(part.start, part.end) for part in result.ranges if part.state != "good"]
            size = result.ranges[-1].end or 0
            if [(at, at + length) for at, length in parse_lost(content, size)] != lost:
                return False
            continue
        folder = name.partition(".damaged")[0]
        if folder in kept and ".damaged" in name:
            result = results[folder]
            inside = name.partition(".damaged")[2].partition("/")[2]
            if inside:
                if made.files.get(f"{folder}/{inside}") != content:
                    return False
            elif not is_part(content, result, _whole_of(result, made)):
                return False
        elif made.files.get(name) != content:
            return False
    return True


def _whole_of(result: FileResult, made: Made) -> bytes:
    """What the ranges of a damaged image are ranges of."""
    return made.archives[backup.IMAGE] if result.unplaced else made.files[_label(result)]


def _label(result: FileResult) -> str:
    return _named(f"{result.qube}/{result.name}".lstrip("/"))


def _named(path: str) -> str:
    """By its name in qubes.xml."""
    for folder, qube in _BY_PATH.items():
        if path.startswith(folder):
            return qube + path.removeprefix(folder)
    return path


def _read(out: Path) -> dict[str, bytes]:
    """What lies there, but for the restore's own journal."""
    found = {}
    for folder, _, files in os.walk(out):
        for name in files:
            path = os.path.join(folder, name)
            label = os.path.relpath(path, out)
            if label != ".qbackup-journal":
                found[label] = Path(path).read_bytes()
    return found
