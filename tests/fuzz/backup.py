"""A whole backup around the input, sealed with right MACs, so that all behind them is reached.

The input is a byte of choices, and then what stands in one file of the backup, before or after
compression. The backup is restored, and then from a pipe, or once more into the same folder, or
verified and read as a stream. All of them must say the same, and it must be true.
"""

from __future__ import annotations

import gzip
import io
import os
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import qbackup
from qbackup import BackupArchive, Report
from tests.fuzz import seal
from tests.fuzz.common import LIMITS, one_way, outcome, with_checksums
from tests.fuzz.tree import scratch
from tests.maker.qubesxml import Domain, qubes_xml
from tests.restored import snapshot, statuses
from tests.tarbytes import archive, header, member, padded

IMAGE, HOME, METADATA = "vm1/private.img", "dom0-home/user", "qubes.xml"
#: Which file the input stands in.
PLACES = (IMAGE, HOME, METADATA)
_NAMES = {IMAGE: "work/private.img", HOME: "dom0/user", METADATA: "qubes.xml"}
_AGAIN = {"ok": "kept"}
_CHUNKS = (1, 2, 3, 7)
_PASSPHRASE = b"known"
_ID = b"20240917T101112-1"
_LIMITS = replace(LIMITS, file_size=1 << 20)
DOM0 = Domain(
    name="dom0",
    qid=0,
    klass="AdminVM",
    label="black",
    template=None,
    netvm=None,
    volumes={},
    backup_path=HOME,
    backup_size=1,
)
WORK = replace(
    DOM0, name="work", qid=1, klass="AppVM", volumes={"private": True}, backup_path="vm1/"
)


@dataclass(frozen=True)
class Choices:
    """What the first byte says.

    Args:
        place: which file the rest stands in.
        chunks: into how many it is cut.
        compressed: with gzip.
        is_stream: the rest is what gzip made; else it is compressed here.
        lost: the last chunk is damaged.
        keep: what is left of a damaged file is kept.
    """

    place: str = IMAGE
    chunks: int = 1
    compressed: bool = False
    is_stream: bool = False
    lost: bool = False
    keep: bool = False

    @classmethod
    def of(cls, byte: int) -> Choices:
        return cls(
            place=PLACES[(byte & 3) % 3],
            chunks=_CHUNKS[byte >> 2 & 3],
            compressed=bool(byte & 16),
            is_stream=bool(byte & 32),
            lost=bool(byte & 64),
            keep=bool(byte & 128),
        )

    def byte(self) -> int:
        """The byte that says this."""
        flags = (self.compressed, self.is_stream, self.lost, self.keep)
        low = PLACES.index(self.place) | _CHUNKS.index(self.chunks) << 2
        return low | sum(flag << 4 + i for i, flag in enumerate(flags))


def check(data: bytes) -> None:
    """What a restore says is true, and a second way to read says the same."""
    if not data:
        return
    choices = Choices.of(data[0])
    backup = _backup(choices, data[1:])
    with tempfile.TemporaryDirectory(prefix="qbackup-fuzz-", dir=scratch()) as name:
        scene = Path(name)
        first = _restored(io.BytesIO(backup), scene / "first", choices)
        _check_restored(first, scene, choices)
        second = _SECOND[zlib.crc32(data) % len(_SECOND)]  # one for each input: it takes as long
        second(backup, scene / "first", choices, first)


def _backup(choices: Choices, data: bytes) -> bytes:
    compressed = b"True\ncompression-filter=gzip" if choices.compressed else b"False"
    text = b"version=4\nencrypted=True\ncompressed=%s\nbackup-id=%s\n" % (compressed, _ID)
    copy = seal.encrypted(text, seal.key_for(b"backup-header!" + _PASSPHRASE))
    parts = [member(b"backup-header", text), member(b"backup-header.hmac", copy)]
    contents = {
        METADATA: member(METADATA.encode(), qubes_xml([DOM0, WORK])),
        IMAGE: member(IMAGE.encode(), b"image"),
        HOME: archive(header(HOME.encode() + b"/", kind=b"5", mode=0o700)),
    }
    contents[choices.place] = _content(choices, data)
    for path, content in contents.items():
        stream = content
        if choices.compressed and not (choices.is_stream and path == choices.place):
            stream = gzip.compress(content, 1, mtime=0)
        parts += _members(path, stream, choices if path == choices.place else Choices())
    return b"".join(parts)


def _content(choices: Choices, data: bytes) -> bytes:
    if choices.compressed and choices.is_stream:
        return data
    if choices.place == METADATA:
        return archive(header(METADATA.encode(), size=len(data)), padded(data))
    return with_checksums(data)


def _members(path: str, stream: bytes, choices: Choices) -> Iterator[bytes]:
    size = max(1, -(-len(stream) // choices.chunks))
    for index, start in enumerate(range(0, max(1, len(stream)), size)):
        name = f"{path}.{index:03d}".encode()
        key = seal.key_for(b"!".join((_ID, name, _PASSPHRASE)))
        stored = bytearray(seal.encrypted(stream[start : start + size], key))
        stored[-1] ^= choices.lost and start + size >= len(stream)
        yield member(name + b".enc", bytes(stored))


def _opened(source: BinaryIO) -> BackupArchive:
    return qbackup.open(source, passphrase=_PASSPHRASE, limits=_LIMITS, jobs=2)


def _restored(source: BinaryIO, out: Path, choices: Choices) -> Report:
    with _opened(source) as opened:
        return opened.restore(out, keep_damaged=choices.keep, check=False)


def _check_restored(report: Report, scene: Path, choices: Choices) -> None:
    """What is said is there, nothing else is, and damage cost its own file only."""
    assert os.listdir(scene) == ["first"]
    made = snapshot(scene / "first")
    names = statuses(report)
    good = {name for name, status in names.items() if status == "ok"}
    for name in good:
        assert (scene / "first" / name).exists()
    kept = {f"{file.qube}/{file.kept_as}" for file in report.files if file.kept_as}
    for path in made:
        assert any(path == name or path.startswith(f"{name}/") for name in good | kept)
    if choices.place == METADATA:
        return
    others = {"qubes.xml", "work/private.img", "dom0/user"} - {_NAMES[choices.place]}
    assert others <= good
    assert not (choices.lost and _NAMES[choices.place] in good)


def _check_pipe(backup: bytes, out: Path, choices: Choices, first: Report) -> None:
    """The same comes through a pipe."""
    other = out.parent / "pipe"
    assert statuses(_restored(one_way(backup), other, choices)) == statuses(first)
    assert snapshot(other) == snapshot(out)


def _check_again(backup: bytes, out: Path, choices: Choices, first: Report) -> None:
    """What is there is kept, what is not fails again in the same way, and nothing changes."""
    before = snapshot(out)
    again = _restored(io.BytesIO(backup), out, choices)
    assert snapshot(out) == before
    expected = {name: _AGAIN.get(status, status) for name, status in statuses(first).items()}
    assert statuses(again) == expected


def _check_reading(backup: bytes, out: Path, choices: Choices, first: Report) -> None:
    """Verifying says what restoring says, and a stream gives what the file has."""
    with _opened(io.BytesIO(backup)) as opened:
        if choices.place != METADATA:
            verified, restored = statuses(opened.verify(check=False)), statuses(first)
            assert all(verified[name] == restored[name] for name in _NAMES.values())
            assert choices.keep or verified == restored
        if choices.place == IMAGE:
            read = outcome(lambda: opened.open("work/private.img").read())
            good = statuses(first)["work/private.img"] == "ok"
            assert good == isinstance(read, bytes)
            assert not good or (out / "work/private.img").read_bytes() == read


_SECOND = (_check_pipe, _check_again, _check_reading)
