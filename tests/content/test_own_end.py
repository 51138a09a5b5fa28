"""Chunks of another backup beyond the verified end of a file cost nothing; every real loss counts.

`tests/vectors/foreign` has pairs of backups by the real tools: `new`, and `old`, which is longer.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import qbackup
from qbackup import Report
from qbackup.base.errors import ChunkDamaged
from qbackup.base.events import Data, Lost
from qbackup.content.own_end import OwnEnd
from tests.make_foreign_vectors import KINDS, PASSPHRASE, images, read
from tests.support import alter, tarbytes
from tests.support.restored import errors
from tests.support.speed import rows
from tests.support.vectorfiles import backup_path

TOLD = "beyond the verified end of"
EXACT = backup_path("uncompressed-exact-chunk")  # its only file ends with an empty chunk


def members(backup: bytes) -> dict[str, bytes]:
    """Each member's archive by its name, in order."""
    with tarfile.open(fileobj=io.BytesIO(backup), ignore_zeros=True) as archive:
        found = archive.getmembers()
    ends = [member.offset for member in found[1:]] + [len(backup)]
    return {m.name: backup[m.offset : end] for m, end in zip(found, ends, strict=True)}


#: Makes a file of two backups of a kind.
Place: TypeAlias = Callable[[str], bytes]


def behind(kind: str) -> bytes:
    return read(kind, "new") + read(kind, "old")


def written_over(kind: str) -> bytes:
    """Bytes of a device: the newer backup, and behind its end the older one's last members."""
    new, old, place = read(kind, "new"), read(kind, "old"), 0
    for part in members(old).values():
        if place >= len(new):
            break
        place += len(part)
    return new + old[place:]


def in_front(kind: str) -> bytes:
    """Chunks of the older backup in front of the newer one's header."""
    old = [part for name, part in members(read(kind, "old")).items() if "/private.img.0" in name]
    return b"".join(old[2:]) + read(kind, "new")


def is_needed(kind: str, qube: str, name: str) -> bool:
    """Tells if a chunk holds more than the zeros that fill up a record."""
    number = int(re.sub(r".*img\.(\d+).*", r"\1", name))
    return kind[0] == "2" or number * 4096 < len(images(kind, "new")[qube]) + 1024


def stored(data: bytes, folder: Path) -> Path:
    path = folder / "backup"
    path.write_bytes(data)
    return path


def restored(backup: Path, out: Path, kind: str, **options: Any) -> Report:
    """Restores it, and makes sure that no wrong byte came out under a final name."""
    keep = options.pop("keep_damaged", False)
    with qbackup.open(backup, passphrase=PASSPHRASE, **options) as archive:
        report = archive.restore(out, check=False, keep_damaged=keep)
    for qube, image in images(kind, "new").items():
        path = out / qube / "private.img"
        assert not path.exists() or path.read_bytes() == image
    return report


def verified(backup: Path, passphrase: str = PASSPHRASE) -> Report:
    with qbackup.open(backup, passphrase=passphrase) as archive:
        return archive.verify(check=False)


def told(report: Report) -> list[str]:
    return [text for text in report.warnings if TOLD in text]


@rows("kind", list(KINDS), quick=2)
@pytest.mark.parametrize("place", [behind, pytest.param(written_over, marks=pytest.mark.slow)])
class TestAnOlderBackup:
    def test_is_a_warning(self, tmp_path: Path, kind: str, place: Place) -> None:
        backup = stored(place(kind), tmp_path)
        report = restored(backup, tmp_path / "out", kind)
        assert report.ok and report.verdict == "whole", report.errors
        (text,) = told(report)
        assert "vault/private.img" in text
        assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {
            "work",
            "vault",
        }
        assert verified(backup).ok

    @pytest.mark.slow
    @pytest.mark.parametrize("options", [{"salvage": True}, {"keep_damaged": True}])
    def test_is_no_damage_either_way(
        self, tmp_path: Path, kind: str, place: Place, options: dict[str, bool]
    ) -> None:
        backup = stored(place(kind), tmp_path)
        report = restored(backup, tmp_path / "out", kind, **options)
        assert not report.bad and len(told(report)) == 1
        # two backups, each of which could be meant
        both = kind.startswith("4") and place is behind and "salvage" in options
        assert report.verdict == ("other" if both else "whole")

    @pytest.mark.slow
    def test_hides_no_loss(self, tmp_path: Path, kind: str, place: Place) -> None:
        """Each chunk of the newer backup that holds more than padding is taken away in turn."""
        whole = place(kind)
        for name, part in members(read(kind, "new")).items():
            qube = "work" if "vm1" in name or "work" in name else "vault"
            if "/private.img" in name and is_needed(kind, qube, name):
                assert whole.count(part) == 1
                report = verified(stored(whole.replace(part, b""), tmp_path))
                assert f"{qube}/private.img" in errors(report), name
                assert report.verdict == "files"


@rows("kind", [kind for kind in KINDS if kind[0] != "2"], quick=1)
class TestChunksInFront:
    def test_are_a_warning(self, tmp_path: Path, kind: str) -> None:
        report = restored(stored(in_front(kind), tmp_path), tmp_path / "out", kind)
        assert report.ok and len(told(report)) == 1

    @pytest.mark.slow
    def test_cost_no_file_in_salvage(self, tmp_path: Path, kind: str) -> None:
        backup = stored(in_front(kind), tmp_path)
        report = restored(backup, tmp_path / "out", kind, salvage=True)
        assert not report.bad and report.verdict == "archive"


def parts_beyond(folder: Path) -> Iterator[tuple[str, Path]]:
    """A backup with a planted chunk behind a file's last one, and with a gap before it."""
    for number in (2, 7):
        name = f"vm1/firewall.xml.{number:03}.enc"
        planted = tarbytes.member(name.encode(), b"scrypt, but not really" * 20)
        yield name, stored(EXACT.read_bytes() + planted, folder)


class TestOwnChunks:
    """Chunks that are known to be of this backup count, wherever they stand."""

    @pytest.fixture
    def last(self) -> str:
        return list(members(EXACT.read_bytes()))[-1]

    def test_damaged_beyond_the_end_it_counts(self, tmp_path: Path, last: str) -> None:
        """The key of the empty last chunk fits, and its MAC does not."""
        backup = alter.flipped(EXACT, tmp_path / "backup", last, -1)
        report = verified(backup, "correct horse battery staple")
        assert not report.ok and not told(report)

    @pytest.mark.parametrize(("kind", "is_whole"), [("3-gzip", False), ("3-plain", True)])
    def test_the_end_of_the_cipher_counts(
        self, tmp_path: Path, kind: str, *, is_whole: bool
    ) -> None:
        """The last chunk holds nothing but zeros; where it is encrypted, the padding as well."""
        new = stored(read(kind, "new"), tmp_path)
        last = [name for name in alter.names(new) if re.search(r"(vm1|work)/.*img\.\d+$", name)][-1]
        if kind == "3-plain":  # the very last one is empty
            last = f"{last[:-3]}{int(last[-3:]) - 1:03}"
        report = verified(alter.flipped(new, tmp_path / "flipped", last, 0))
        assert report.ok == is_whole and len(told(report)) == is_whole

    def test_a_planted_one_costs_nothing(self, tmp_path: Path) -> None:
        for name, backup in parts_beyond(tmp_path):
            report = verified(backup, "correct horse battery staple")
            assert report.ok and len(told(report)) == 1, name


@pytest.mark.parametrize(
    ("end", "is_cut"), [(b"", True), (b"\0", True), (b"x", False), (None, False)]
)
def test_the_last_block_in_front_must_hold_no_more_than_zeros(
    end: bytes | None, *, is_cut: bool
) -> None:
    own_end = OwnEnd(is_bound=False)
    own_end.is_reached = True
    foreign = Data(memoryview(b"foreign"), index=1, end=end)
    lost = Lost("a.001", 1, ChunkDamaged("the HMAC differs"), end=end)
    for event in (foreign, lost):
        assert list(own_end.cut([event])) == ([] if is_cut else [event])
