"""The committed corpus: every input through its harness, and that harnesses see what is wrong.

`python -m tests.fuzz` makes new inputs; what it found once is here for good.
"""

from __future__ import annotations

import contextlib
import hmac
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qbackup.content import decoders, inner
from qbackup.crypto import openssl, scrypt_format
from qbackup.formats import header, hmac_chunks, v3
from qbackup.formats.metadata import parse
from qbackup.image import tree
from qbackup.restore.resume import records
from qbackup.storage import resync
from qbackup.storage.catalog import pipe, salvage
from qbackup.storage.tar import reader
from qbackup.storage.tar.sparse import SparseMap
from tests import fuzz
from tests.fuzz import guard, seal
from tests.support.speed import rows

ROOT = Path(__file__).parent.parent.parent
INPUTS = [(name, path) for name in fuzz.HARNESSES for path in fuzz.corpus(name)]
MIB = 1 << 20
#: Harnesses that restore each input several times.
WHOLE_BACKUPS = ("backup", "old", "salvage")


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Says which input it was."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"a finding: {path}") from error


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in WHOLE_BACKUPS else name
        for name in fuzz.HARNESSES
    ],
)
class TestCorpus:
    def test_finds_nothing(self, name: str) -> None:
        check = fuzz.load(name)
        for path in fuzz.corpus(name):
            with guard.one_second(), naming(path):
                check(path.read_bytes())

    @pytest.mark.slow
    def test_needs_no_more_memory_than_stated(self, name: str) -> None:
        check = fuzz.load(name)
        for path in fuzz.corpus(name):
            data = path.read_bytes()
            tracemalloc.start()
            try:
                check(data)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert peak < guard.MEMORY_MIB * MIB, path

    def test_has_inputs_that_are_tried_whole(self, name: str) -> None:
        sizes = [path.stat().st_size for path in fuzz.corpus(name)]
        assert len(sizes) >= 4
        assert max(sizes) <= fuzz.HARNESSES[name]

    def test_takes_any_bytes(self, name: str) -> None:
        for data in (b"", b"\0", b"\xff" * 100, bytes(2000), b"ustar" * 200):
            fuzz.load(name)(data)


def test_the_corpus_is_small() -> None:
    assert sum(path.stat().st_size for _, path in INPUTS) < MIB


def test_the_corpus_belongs_to_harnesses() -> None:
    assert sorted(path.name for path in fuzz.CORPUS.iterdir()) == sorted(fuzz.HARNESSES)


def _believes_any_mac(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(hmac, "compare_digest", lambda one, other: True)


def _says_nothing_of_order(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pipe.PipeCatalog, "_out_of_place", lambda catalog, name: None)


def _ignores_what_follows_a_stream(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decoders.ZlibDecoder, "unused_data", b"")
    patch.setitem(decoders.DECODERS, "gzip", lambda limits: decoders.ZlibDecoder())


def _takes_any_value(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(header, "_check_id", str)


def _believes_any_map(patch: pytest.MonkeyPatch) -> None:
    def unchecked(
        member: reader.TarMember, name: bytes, size: int, stored: int, sparse: SparseMap
    ) -> reader.TarMember:
        return replace(member, name=name, type=b"0", size=size, stored_size=stored, sparse=sparse)

    patch.setattr(reader, "_sparse_member", unchecked)


def _believes_any_record(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(records, "_is_plain", lambda record: True)


def _takes_two_qubes_of_one_name(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(parse, "_check_distinct", lambda found: None)


def _ends_at_what_is_broken(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(resync, "_MAGIC", b"nothing has this mark")


def _knows_no_limit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(scrypt_format.EncryptedHeader, "check_limits", lambda header, limits: None)


def _goes_anywhere(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(inner, "unsafe_reason", lambda path, any_byte: None)


def _believes_any_hmac(patch: pytest.MonkeyPatch) -> None:
    for module in (v3, hmac_chunks):
        patch.setattr(module, "proves", lambda passphrase, digest, data, mac: True)


def _takes_any_padding(patch: pytest.MonkeyPatch) -> None:
    def unpadded(stream: openssl.CbcStream) -> bytes:
        block = stream.rest()
        return block[: -block[-1]]

    patch.setattr(openssl.CbcStream, "unpadded_rest", unpadded)


def _says_nothing_of_what_is_broken(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(salvage.SalvageCatalog, "_broken", lambda catalog, error, found: None)


def _joins_any_volumes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(inner.InnerArchive, "_check_boundary", lambda archive, seam: None)


def _takes_any_name(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tree, "_check_name", lambda name: None)


FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "backup": _believes_any_mac,
    "container": _says_nothing_of_order,
    "filters": _ignores_what_follows_a_stream,
    "header": _takes_any_value,
    "image": _takes_any_name,
    "inner": _believes_any_map,
    "journal": _believes_any_record,
    "metadata": _takes_two_qubes_of_one_name,
    "old": _believes_any_hmac,
    "openssl": _takes_any_padding,
    "resync": _ends_at_what_is_broken,
    "salvage": _says_nothing_of_what_is_broken,
    "scrypt": _knows_no_limit,
    "tree": _goes_anywhere,
    "volumes": _joins_any_volumes,
}


class TestHarnesses:
    """With a fault put into the product, the corpus alone shows it."""

    @rows("name", sorted(fuzz.HARNESSES, key=lambda name: name in WHOLE_BACKUPS))
    def test_see_a_fault(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        check = fuzz.load(name)
        FAULTS[name](monkeypatch)
        with pytest.raises((Exception, guard.TooSlow)):
            for path in fuzz.corpus(name):
                check(path.read_bytes())


class TestGuard:
    def test_what_never_ends_is_too_slow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(guard, "CPU_SECONDS", 0.01)
        with pytest.raises(guard.TooSlow), guard.one_second():
            while True:
                pass

    def test_time_that_others_take_is_not_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(guard, "CPU_SECONDS", 0.1)
        with guard.one_second():
            time.sleep(0.3)

    @pytest.mark.slow
    def test_a_step_in_memory_is_seen(self) -> None:
        """In a process of its own, whose memory is then limited."""
        code = (
            "from tests.fuzz.guard import Memory, TooLarge\n"
            "bytes(range(256)) * (1 << 21)\n"
            "memory = Memory(32)\n"
            "bytes(range(256)) * (1 << 21)\n"
            "memory.check()\n"
            "try:\n"
            "    bytes(range(256)) * ((1 << 21) + (1 << 19))\n"
            "    memory.check()\n"
            "except TooLarge:\n"
            "    print('too large')\n"
            "try:\n"
            "    bytearray(1 << 40)\n"
            "except MemoryError:\n"
            "    print('no memory')\n"
        )
        # the shell's child begins with a peak of its own, not with that of this process
        command = ["sh", "-c", '"$0" -c "$1"; exit $?', sys.executable, code]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        assert done.stdout == "too large\nno memory\n"


class TestRunner:
    """With the fuzzer itself, where it is installed."""

    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        pytest.importorskip("atheris")

    def fuzz(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tests.fuzz", "--seconds", "1", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)

    def test_says_how_far_it_came(self, tmp_path: Path) -> None:
        done = self.fuzz("header", "--corpus", str(tmp_path))
        assert done.returncode == 0
        assert len(done.stdout.splitlines()) == 2
        assert list((tmp_path / "header").iterdir())

    def test_refuses_a_name_that_is_none(self) -> None:
        assert self.fuzz("heder").returncode == 2


def test_a_seal_is_opened_by_nothing_else() -> None:
    """What the harnesses seal is what the product takes for sealed, and only under its key."""
    sealed = seal.encrypted(b"plain", seal.key_for(b"secret"))
    parsed = scrypt_format.EncryptedHeader.parse(sealed)
    assert parsed.accepts(seal.key_for(b"secret"))
    assert not parsed.accepts(seal.key_for(b"another"))
