"""A transfer in text mode is told; where it can be undone, `--salvage` undoes it."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import qbackup
from qbackup import NotABackup
from qbackup.storage import text_mode
from qbackup.storage.source import open_source
from qbackup.storage.text_mode import LOST, UNDONE, BinarySource, has_text_line_ends
from tests.conftest import MakerFactory
from tests.maker import assemble
from tests.support import alter, vectorfiles
from tests.support.commandline import call
from tests.support.restored import snapshot
from tests.support.speed import rows

#: Vectors that the real sed has changed (`LC_ALL=C sed 's/$/\r/'`), as FTP in ASCII mode does, but
#: for a CR at the end; and one that unix2dos has changed (`unix2dos -f`), which leaves CR LF alone.
FOLDER = vectorfiles.FOLDER / "transfers"
NAMES = ["xz-many-chunks", "v3-gzip-many-chunks", "v2-beta3-raw"]


def changed(name: str) -> Path:
    return FOLDER / f"{name}.crlf"


def secret(name: str) -> str:
    return str(vectorfiles.load(name)["passphrase"])


@rows("name", NAMES, quick=2)
class TestChanged:
    def test_it_is_told(self, name: str) -> None:
        with pytest.raises(NotABackup, match="each LF became CR LF") as caught:
            qbackup.open(changed(name))
        assert "--salvage undoes it" in caught.value.advice

    def test_salvage_undoes_it(self, name: str, tmp_path: Path) -> None:
        env = {"QBACKUP_PASSPHRASE": secret(name)}
        ended = call("restore", changed(name), "-o", tmp_path / "a", "--salvage", "-q", env=env)
        assert ended.status == 0, ended
        assert ended.err == f"warning: {UNDONE}\n"
        whole = vectorfiles.backup_path(name)
        assert call("restore", whole, "-o", tmp_path / "b", "-q", env=env).status == 0
        assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")

    def test_without_the_cr_at_the_end(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(changed(name).read_bytes().removesuffix(b"\r"))
        with qbackup.open(tmp_path / "x", passphrase=secret(name), salvage=True) as archive:
            assert archive.verify().ok

    def test_as_a_second_copy(self, name: str, tmp_path: Path) -> None:
        data = vectorfiles.backup_path(name).read_bytes()
        (tmp_path / "cut").write_bytes(data[: len(data) // 2])
        also = [changed(name)]
        with qbackup.open(tmp_path / "cut", also=also, passphrase=secret(name)) as archive:
            assert archive.verify().ok


def test_what_unix2dos_has_changed_comes_out_in_part() -> None:
    """In a file of 150 KB one chunk of twelve has CR LFs of its own, which are lost."""
    backup = FOLDER / f"{NAMES[0]}.unix2dos"
    with pytest.raises(NotABackup, match="each LF became CR LF"):
        qbackup.open(backup)
    with qbackup.open(backup, passphrase=secret(NAMES[0]), salvage=True) as archive:
        report = archive.verify(check=False)
    assert len(report.bad) == 1 and len(report.files) > 1


def test_a_large_one_by_unix2dos_is_told_apart() -> None:
    data = random.Random(7).randbytes(4 << 20)
    for changed_by, note in (
        (data.replace(b"\n", b"\r\n"), text_mode.UNDONE),
        (data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"), text_mode.UNDONE_IN_PART),
    ):
        assert BinarySource(open_source(io.BytesIO(changed_by))).notes == (note,)


def test_damage_besides_is_still_damage(tmp_path: Path) -> None:
    name = NAMES[0]
    data = bytearray(changed(name).read_bytes())
    stored = alter.content(vectorfiles.backup_path(name), "vm1/private.img.003.enc")
    data[data.index(stored[1000:2000].split(b"\n")[1])] ^= 0x80
    (tmp_path / "x").write_bytes(data)
    with qbackup.open(tmp_path / "x", passphrase=secret(name), salvage=True) as archive:
        report = archive.verify(check=False)
    assert not report.ok and len(report.bad) == 1


def test_a_good_backup_is_never_taken_for_one() -> None:
    for name in vectorfiles.names():
        source = open_source(vectorfiles.backup_path(name))
        assert not has_text_line_ends(source) and not text_mode.has_lost_line_ends(source)
        source.close()


def test_the_other_direction_is_told(maker: MakerFactory, tmp_path: Path) -> None:
    made = maker(compression_filter=None, chunk_size=1 << 20)
    made.add_qube("work", files={"private.img": random.Random(5).randbytes(5 << 20)})
    backup = assemble(made.members(), tmp_path / "backup")
    backup.write_bytes(backup.read_bytes().replace(b"\r\n", b"\n"))
    for salvage in (False, True):
        with qbackup.open(backup, passphrase=made.passphrase, salvage=salvage) as archive:
            report = archive.verify(check=False)
        assert not report.ok and LOST in report.warnings


@given(
    data=st.lists(st.sampled_from([b"\r", b"\n", b"a", b"\r\n", b"\0" * 7])).map(b"".join),
    block=st.integers(1, 9),
    start=st.integers(0, 30),
    size=st.integers(0, 30),
)
def test_any_bytes_come_back(data: bytes, block: int, start: int, size: int) -> None:
    data += b"\0"  # as an archive ends
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_mode, "_BLOCK", block)
        source = BinarySource(open_source(io.BytesIO(data.replace(b"\n", b"\r\n"))))
        assert source.end() == len(data)
        buffer = bytearray(size)
        count = source.read_into(start, memoryview(buffer))
    assert buffer[:count] == data[start : start + size]
