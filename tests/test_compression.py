"""Filters: what the real programs write is read, and an end that is missing is never silent."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shlex
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qbackup.compression import KNOWN_FILTERS, choose_filter
from qbackup.errors import (
    ChunkDamaged,
    Damaged,
    LimitExceeded,
    MachineError,
    QBackupError,
    UnsupportedFormat,
    UsageError,
)
from qbackup.formats import Data, Event, Lost
from qbackup.limits import MIB, Limits
from tests.maker import FILTERS, run

TEXT = b"".join(b"line %d of a text that can be compressed\n" % n for n in range(30_000))
SMALL = b"a small content"


def in_chunks(data: bytes, size: int) -> Iterator[Event]:
    for start in range(0, max(len(data), 1), size):
        yield Data(memoryview(bytearray(data[start : start + size])))


def pieces(
    name: str | None,
    data: bytes | Iterable[Event],
    *,
    chunk: int = 100_000,
    override: str | None = None,
    limits: Limits | None = None,
) -> Iterator[memoryview]:
    """What the filter makes of these bytes, cut into chunks."""
    decompress = choose_filter(name, override, limits or Limits())
    return decompress(in_chunks(data, chunk) if isinstance(data, bytes) else data)


def unpack(name: str | None, data: bytes | Iterable[Event], **options: Any) -> bytes:
    return b"".join(bytes(piece) for piece in pieces(name, data, **options))


def compress(name: str, data: bytes, *options: str) -> bytes:
    """By the real program."""
    return run([name, *options, "-c"], stdin=data)


@pytest.fixture(scope="module")
def small(tools: None) -> dict[str, bytes]:
    """SMALL by every program."""
    return {name: compress(name, SMALL) for name in FILTERS}


each_filter = pytest.mark.parametrize("name", FILTERS)


class TestRealPrograms:
    @each_filter
    def test_output_is_decompressed(self, tools: None, name: str) -> None:
        for data in (b"", b"x", TEXT, os.urandom(300_000), bytes(3 << 20)):
            assert unpack(name, compress(name, data)) == data

    @each_filter
    @pytest.mark.parametrize("chunk", [1, 7, 65_536, 65_537])
    def test_chunks_may_be_cut_anywhere(
        self, small: dict[str, bytes], name: str, chunk: int
    ) -> None:
        assert unpack(name, small[name], chunk=chunk) == SMALL

    @each_filter
    def test_empty_chunks_change_nothing(self, small: dict[str, bytes], name: str) -> None:
        events = [Data(memoryview(bytearray(part))) for part in (b"", small[name], b"", b"")]
        assert unpack(name, events) == SMALL

    @each_filter
    def test_many_streams_are_one(self, tools: None, small: dict[str, bytes], name: str) -> None:
        other = compress(name, b"", *(["-1"] if name != "lzma" else []))
        data = small[name] + other + 50 * small[name] + other
        for chunk in (5, 100_000):
            assert unpack(name, data, chunk=chunk) == 51 * SMALL

    def test_pbzip2_with_many_blocks(self, tools: None) -> None:
        data = os.urandom(1 << 20)
        stored = compress("pbzip2", data, "-b1", "-p4")
        assert stored.count(b"BZh91AY&SY") > 5
        assert unpack("pbzip2", stored) == data

    def test_xz_with_many_blocks_and_threads(self, tools: None) -> None:
        assert unpack("xz", compress("xz", TEXT, "-T2", "--block-size=100KiB")) == TEXT

    def test_zstd_with_a_long_window(self, tools: None) -> None:
        data = os.urandom(1 << 20) * 2
        assert unpack("zstd", compress("zstd", data, "--long=27")) == data

    def test_none_is_none(self) -> None:
        assert unpack(None, TEXT, chunk=1000) == TEXT
        assert unpack("none", TEXT) == TEXT
        assert unpack(None, b"") == b""

    def test_an_override_goes_before_the_header(self, small: dict[str, bytes]) -> None:
        assert unpack("gzip", small["xz"], override="xz") == SMALL
        assert unpack("no-such-filter", SMALL, override="none") == SMALL

    @given(st.binary(max_size=300), st.integers(1, 60), st.sampled_from(["gzip", "bzip2", "xz"]))
    @settings(deadline=None)
    def test_any_content_in_any_chunks(self, data: bytes, chunk: int, name: str) -> None:
        """The standard library's compressors make the input here, as they are quick to call."""
        make: dict[str, Callable[[bytes], bytes]] = {
            "gzip": gzip.compress,
            "bzip2": bz2.compress,
            "xz": lzma.compress,
        }
        stored = make[name](data)
        assert unpack(name, stored, chunk=chunk) == data


class TestCutAndExtended:
    @each_filter
    def test_cut_at_any_length_is_an_error(self, small: dict[str, bytes], name: str) -> None:
        for size in range(len(small[name])):
            with pytest.raises(Damaged, match=r"cut off|broken"):
                unpack(name, small[name][:size])

    @each_filter
    def test_cut_inside_a_second_stream_is_an_error(
        self, small: dict[str, bytes], name: str
    ) -> None:
        for size in range(1, len(small[name])):
            with pytest.raises(Damaged):
                unpack(name, small[name] + small[name][:size])

    @each_filter
    @pytest.mark.parametrize(
        "extra", [b"\0", b"x", b"\n", bytes(512), b"trailing words, quite a few of them"]
    )
    def test_anything_after_the_end_is_an_error(
        self, small: dict[str, bytes], name: str, extra: bytes
    ) -> None:
        for chunk in (1, 100_000, len(small[name])):
            with pytest.raises(Damaged):
                unpack(name, small[name] + extra, chunk=chunk)

    @each_filter
    def test_another_filters_stream_after_the_end_is_an_error(
        self, small: dict[str, bytes], name: str
    ) -> None:
        for other, stored in small.items():
            if stored[:2] != small[name][:2]:
                with pytest.raises(Damaged):
                    unpack(name, small[name] + stored)
                with pytest.raises(Damaged):
                    unpack(name, stored)
            else:
                assert unpack(name, stored) == SMALL, other

    @each_filter
    def test_a_changed_byte_never_gives_other_content(
        self, small: dict[str, bytes], name: str
    ) -> None:
        """But for lzma, which has no checksum: there the MAC alone would notice."""
        for position in range(len(small[name])):
            data = bytearray(small[name])
            data[position] ^= 0x10
            try:
                content = unpack(name, bytes(data))
            except (Damaged, LimitExceeded):
                continue
            assert content == SMALL or name == "lzma"

    @each_filter
    def test_what_came_before_the_damage_was_given(self, tools: None, name: str) -> None:
        stored = compress(name, TEXT)
        given = b""
        with pytest.raises(Damaged):
            for piece in pieces(name, stored[:-1]):
                given += piece
        assert TEXT.startswith(given)

    def test_lzma_of_known_length_ends_without_a_mark(self) -> None:
        """As other writers of that format leave it; xz's lzma writes the mark."""
        raw = lzma.compress(SMALL, format=lzma.FORMAT_ALONE)
        sized = raw[:5] + len(SMALL).to_bytes(8, "little") + raw[13:]
        assert unpack("lzma", sized) == SMALL


class TestLostChunks:
    LOST = Lost("a.001", 10, ChunkDamaged("altered", chunk="a.001"))

    @pytest.mark.parametrize("name", [*KNOWN_FILTERS])
    def test_raise_their_own_error_where_they_are_missed(self, name: str) -> None:
        def events() -> Iterator[Event]:
            yield self.LOST

        with pytest.raises(ChunkDamaged) as caught:
            unpack(name, events())
        assert caught.value is self.LOST.error

    def test_what_came_before_is_given(self) -> None:
        decompress = choose_filter(None, None, Limits())
        out = decompress([Data(memoryview(bytearray(b"first"))), self.LOST])
        assert bytes(next(out)) == b"first"
        with pytest.raises(ChunkDamaged):
            next(out)


class TestMemory:
    @pytest.mark.parametrize("name", ["gzip", "bzip2", "xz", "lzma", "zstd"])
    def test_a_bomb_comes_in_small_pieces(self, tools: None, name: str) -> None:
        size = 64 * MIB
        stored = compress(name, bytes(size))
        assert len(stored) < 100_000
        lengths = [len(piece) for piece in pieces(name, stored)]
        assert sum(lengths) == size
        assert max(lengths) <= 512 * 1024

    def test_a_chunk_that_is_not_compressed_comes_in_small_pieces(self) -> None:
        lengths = [len(piece) for piece in pieces(None, bytes(3 << 20), chunk=3 << 20)]
        assert (sum(lengths), max(lengths)) == (3 << 20, 128 * 1024)

    def test_a_chunk_is_let_go_before_the_next_one_is_asked_for(self, tools: None) -> None:
        stored = compress("gzip", os.urandom(300_000))
        for name, override in ((None, None), ("gzip", None), (None, "/usr/bin/env gzip")):
            seen: list[bytearray] = []

            def events(seen: list[bytearray] = seen) -> Iterator[Event]:
                for start in range(0, len(stored), 50_000):
                    for buffer in seen:
                        buffer.append(0)  # BufferError where somebody still looks at it
                    seen.append(bytearray(stored[start : start + 50_000]))
                    yield Data(memoryview(seen[-1]))

            for piece in pieces(name, events(), override=override):
                del piece
            assert len(seen) > 3

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("xz", ["--lzma2=dict=512MiB"]),
            ("lzma", ["--lzma1=dict=512MiB"]),
            ("zstd", ["--long=31"]),
        ],
    )
    def test_a_decoder_that_asks_for_too_much_is_refused(
        self, tools: None, name: str, options: list[str]
    ) -> None:
        """zstd's window is never larger than what it knows of the content: so not a file here."""
        stored = subprocess.run(
            [name, *options, "-c"], input=os.urandom(1000), stdout=subprocess.PIPE, check=True
        ).stdout
        with pytest.raises(LimitExceeded, match="decoder_memory") as caught:
            unpack(name, stored)
        assert caught.value.limit == "decoder_memory"
        assert len(unpack(name, stored, limits=Limits(decoder_memory=1 << 32))) == 1000

    @each_filter
    def test_the_programs_own_greatest_levels_are_within_the_default(
        self, tools: None, name: str
    ) -> None:
        level = {"zstd": "-19", "zstdmt": "-19"}.get(name, "-9")
        assert unpack(name, compress(name, TEXT, level)) == TEXT


class TestNames:
    @pytest.mark.parametrize("name", ["lz4", "sh", "gzip-x", "GZIP", "", "compress"])
    def test_unknown_ones_are_refused_and_the_way_out_is_named(self, name: str) -> None:
        if not name:
            assert unpack(name, SMALL) == SMALL  # no filter
            return
        with pytest.raises(UnsupportedFormat, match=f"--compression-filter {name}"):
            choose_filter(name, None, Limits())

    def test_from_a_header_no_program_is_ever_run(self, tmp_path: Path) -> None:
        mark = tmp_path / "ran"
        program = tmp_path / "filter"
        program.write_text(f"#!/bin/sh\ntouch {mark}\n")
        program.chmod(0o755)
        with pytest.raises(UnsupportedFormat):
            choose_filter(str(program), None, Limits())
        assert not mark.exists()

    def test_zstd_where_python_has_none_names_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in ("compression", "compression.zstd", "backports.zstd"):
            monkeypatch.setitem(sys.modules, module, None)
        backports = sys.modules.get("backports")
        if backports is not None:
            monkeypatch.delattr(backports, "zstd", raising=False)
        with pytest.raises(UnsupportedFormat, match=r"pip install 'qbackup\[zstd\]'"):
            choose_filter("zstd", None, Limits())


class TestExternalPrograms:
    """Only one that the user named himself is run, with ``-d``."""

    @staticmethod
    def script(tmp_path: Path, body: str) -> str:
        path = tmp_path / "filter"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return str(path)

    def test_decompress(self, tools: None) -> None:
        data = os.urandom(100_000) + TEXT
        stored = compress("gzip", data)
        assert unpack("lz4", stored, override="/usr/bin/env gzip", chunk=70_000) == data

    def test_more_output_than_a_pipe_holds_comes_while_input_goes(self, tools: None) -> None:
        stored = compress("gzip", bytes(20 << 20)) + compress("gzip", os.urandom(3 << 20))
        total = 0
        for piece in pieces(None, stored, override="/usr/bin/env gzip"):
            total += len(piece)
        assert total == 23 << 20

    def test_get_options_by_the_shells_rules_and_no_shell(self, tmp_path: Path) -> None:
        program = self.script(tmp_path, 'echo "$#:$1:$2:$3"; cat >/dev/null')
        override = f"{shlex.quote(program)} 'a b' '$(id)'"
        assert unpack(None, SMALL, override=override) == b"3:a b:$(id):-d\n"

    def test_that_fail_are_damage_with_their_status(self, tmp_path: Path) -> None:
        program = self.script(tmp_path, "cat; exit 7")
        with pytest.raises(Damaged, match="status 7"):
            unpack(None, SMALL, override=program)

    def test_that_refuse_a_cut_stream_are_damage(self, tools: None) -> None:
        stored = compress("gzip", TEXT)
        for data in (stored[:-5], stored + b"x", b"x" + stored):
            with pytest.raises(Damaged):
                unpack(None, data, override="/usr/bin/env gzip -q")

    def test_that_stop_reading_early_are_damage(self, tmp_path: Path) -> None:
        for body in ("exit 0", "head -c 10; exit 0", "exec cat <&- "):
            program = self.script(tmp_path, body)
            with pytest.raises(Damaged, match=r"before all its input|status"):
                unpack(None, os.urandom(2 << 20), override=program)

    def test_that_close_their_output_and_hang_are_not_waited_for_with_input_left(
        self, tmp_path: Path
    ) -> None:
        program = self.script(tmp_path, "exec >&-; exec sleep 1000")
        with pytest.raises(Damaged, match="before all its input"):
            unpack(None, os.urandom(2 << 20), override=program)

    def test_that_are_not_there_are_the_machines_fault(self, tmp_path: Path) -> None:
        with pytest.raises(MachineError, match="can't run the filter"):
            unpack(None, SMALL, override=str(tmp_path / "missing"))
        (tmp_path / "no-program").write_text("text")
        with pytest.raises(MachineError, match="can't run the filter"):
            unpack(None, SMALL, override=str(tmp_path / "no-program"))

    def test_with_no_name_are_the_callers_fault(self) -> None:
        for override in ("", "  ", "'unclosed"):
            with pytest.raises(UsageError):
                choose_filter("gzip", override, Limits())

    def test_are_ended_when_nobody_reads_on(self, tmp_path: Path) -> None:
        program = self.script(tmp_path, f"echo $$ >{tmp_path}/pid; cat; exec sleep 1000")
        out = pieces(None, bytes(1 << 20), override=program)
        next(out)
        out.close()  # type: ignore[attr-defined]
        process = int((tmp_path / "pid").read_text())
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)

    def test_are_ended_when_a_chunk_is_lost(self, tmp_path: Path) -> None:
        program = self.script(tmp_path, f"echo $$ >{tmp_path}/pid; exec cat")
        lost = Lost("a.001", 10, ChunkDamaged("altered"))

        def events() -> Iterator[Event]:
            yield Data(memoryview(bytearray(100_000)))
            while not (tmp_path / "pid").exists():
                pass
            yield lost

        with pytest.raises(ChunkDamaged):
            unpack(None, events(), override=program)
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)


class TestHostileInput:
    @given(st.sampled_from(KNOWN_FILTERS), st.binary(max_size=200))
    @settings(deadline=None)
    def test_any_bytes_give_content_or_an_error_of_ours(self, name: str, data: bytes) -> None:
        try:
            unpack(name, data)
        except QBackupError as error:
            assert isinstance(error, (Damaged, LimitExceeded))

    def test_thousands_of_empty_streams_cost_no_memory(self) -> None:
        data = gzip.compress(b"", mtime=0) * 20_000 + gzip.compress(SMALL)
        assert list(map(bytes, pieces("gzip", data))) == [SMALL]

    def test_a_gzip_header_with_every_optional_field(self) -> None:
        raw = zlib.compressobj(wbits=-15)
        body = raw.compress(SMALL) + raw.flush()
        front = b"\x1f\x8b\x08\x1e" + bytes(6) + b"\x02\0xx" + b"name\0" + b"comment\0"
        front += (zlib.crc32(front) & 0xFFFF).to_bytes(2, "little")
        end = zlib.crc32(SMALL).to_bytes(4, "little") + len(SMALL).to_bytes(4, "little")
        assert unpack("gzip", front + body + end) == SMALL

    def test_an_inner_archive_goes_through_every_filter(self, tools: None) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            info = tarfile.TarInfo("vm1/private.img")
            info.size = len(TEXT)
            tar.addfile(info, io.BytesIO(TEXT))
        for name in FILTERS:
            assert unpack(name, compress(name, out.getvalue())) == out.getvalue()
