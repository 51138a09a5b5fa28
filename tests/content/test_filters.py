"""Filters: what the real programs write is read, and an end that is missing is never silent.

All of it holds for gzip with isal, and where that is not installed.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import importlib.util
import io
import lzma
import os
import random
import shlex
import shutil
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qbackup.base.errors import (
    ChunkDamaged,
    Damaged,
    LimitExceeded,
    MachineError,
    QBackupError,
    UnsupportedFormat,
    UsageError,
)
from qbackup.base.events import Data, Event, Lost
from qbackup.base.limits import MIB, Limits
from qbackup.content import decoders
from qbackup.content.decoders import Decoder, IsalDecoder, ZlibDecoder, gzip_library
from qbackup.content.detect import detect_filter
from qbackup.content.filters import KNOWN_FILTERS, choose_filter
from tests.maker import FILTERS, inner_tar, run
from tests.support.speed import rows

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


def need_isal() -> None:
    """Skips where it is not installed; in continuous integration (`CI` is set) that is a
    failure.
    """
    if importlib.util.find_spec("isal") is not None:
        return
    if os.environ.get("CI"):
        pytest.fail("not installed: isal")
    pytest.skip("not installed: isal")


def use_library(library: str, patch: pytest.MonkeyPatch) -> None:
    """Has gzip inflated by isal or, as where that is missing, by zlib."""
    if library == "isal":
        need_isal()
    else:
        patch.setitem(sys.modules, "isal", None)


@pytest.fixture
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A filter's name; those of gzip come with each library that inflates them."""
    filter_name, _, library = str(request.param).partition(" by ")
    if library:
        use_library(library, monkeypatch)
    return filter_name


@pytest.fixture(params=["isal", "zlib"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What inflates gzip."""
    use_library(request.param, monkeypatch)
    return str(request.param)


def by_each_library(*names: str) -> list[str]:
    return [
        f"{name} by {library}" if library else name
        for name in names
        for library in (["isal", "zlib"] if name in {"gzip", "pigz"} else [""])
    ]


each_example_alike = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
each_any_filter = pytest.mark.parametrize(
    "name", by_each_library("gzip", "bzip2", "xz"), indirect=True
)
each_filter = pytest.mark.parametrize("name", by_each_library(*FILTERS), indirect=True)


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

    @each_any_filter
    @given(data=st.binary(max_size=300), chunk=st.integers(1, 60))
    @each_example_alike
    def test_any_content_in_any_chunks(self, name: str, data: bytes, chunk: int) -> None:
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
        "extra", [b"\0x", b"x", b"\n", bytes(10_240), b"trailing words, quite a few of them"]
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

    @pytest.mark.parametrize("name", by_each_library(*KNOWN_FILTERS), indirect=True)
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
    @rows("name", by_each_library("gzip", "bzip2", "xz", "lzma", "zstd"), indirect=True)
    def test_a_bomb_comes_in_small_pieces(self, tools: None, name: str) -> None:
        size = 64 * MIB
        stored = compress(name, bytes(size))
        assert len(stored) < 100_000
        lengths = [len(piece) for piece in pieces(name, stored)]
        assert sum(lengths) == size
        assert max(lengths) <= 512 * 1024

    def test_a_chunk_that_is_not_compressed_comes_in_small_pieces(self) -> None:
        lengths = [len(piece) for piece in pieces(None, bytes(3 << 20), chunk=3 << 20)]
        assert (sum(lengths), max(lengths)) == (3 << 20, 512 * 1024)

    @pytest.mark.usefixtures("library")
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

    @pytest.mark.parametrize("options", ["--format=lzma", "-9 -F lzma", "-Falone"])
    def test_xz_may_have_written_the_older_format(self, tools: None, options: str) -> None:
        """``xz --format=lzma`` is a filter that Qubes takes; the header's program is xz."""
        stored = compress("xz", SMALL, *options.split())
        assert unpack(f"/usr/bin/xz {options}", stored + bytes(100)) == SMALL
        with pytest.raises(Damaged, match="lzma stream is cut off"):
            unpack(f"xz {options}", stored[:-8])

    @pytest.mark.parametrize("override", [None, "/usr/bin/zstd"])
    def test_a_stream_of_zstd_may_begin_with_a_frame_to_be_skipped(
        self, tools: None, override: str | None
    ) -> None:
        """pzstd begins so; padding behind the stream is found all the same."""
        skipped = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"size"
        stored = skipped + compress("zstd", SMALL)
        assert detect_filter(stored) == "zstd"
        assert unpack("zstd", stored + bytes(9999), override=override) == SMALL

    @pytest.mark.parametrize("memory", [1, 12, 1023, 1 << 10, 1 << 63])
    def test_any_limit_of_memory_is_one(self, tools: None, memory: int) -> None:
        """zstd takes no window below 1 KiB for an answer, and 0 for its own 128 MiB."""
        command = ["zstd", "--long=20", "-c"]  # from a pipe: the window is what was asked for
        stored = subprocess.run(
            command, input=os.urandom(1000), stdout=subprocess.PIPE, check=True
        ).stdout
        if memory >= 1 << 20:
            assert len(unpack("zstd", stored, limits=Limits(decoder_memory=memory))) == 1000
            return
        with pytest.raises(LimitExceeded) as caught:
            unpack("zstd", stored, limits=Limits(decoder_memory=memory))
        assert caught.value.needed == 1 << 20

    def test_that_runs_out_is_no_damage(
        self, library: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The backup is as good as it was."""

        def fail(self: Decoder, data: bytes, max_length: int) -> bytes:
            raise MemoryError

        kind = IsalDecoder if library == "isal" else ZlibDecoder
        monkeypatch.setattr(kind, "decompress", fail)
        with pytest.raises(MemoryError):
            unpack("gzip", gzip.compress(SMALL))

    @pytest.mark.slow
    @each_filter
    def test_the_programs_own_greatest_levels_are_within_the_default(
        self, tools: None, name: str
    ) -> None:
        level = {"zstd": "-19", "zstdmt": "-19"}.get(name, "-9")
        assert unpack(name, compress(name, TEXT, level)) == TEXT


class TestNames:
    @pytest.mark.parametrize("name", ["lz4", "sh", "gzip-x", "GZIP", "compress"])
    def test_unknown_ones_are_refused_and_the_way_out_is_named(self, name: str) -> None:
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
        with pytest.raises(UnsupportedFormat, match=r"backports.zstd, or .* /usr/bin/zstd"):
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
    @rows("name", by_each_library(*KNOWN_FILTERS), indirect=True, quick=2)
    @given(data=st.binary(max_size=200))
    @each_example_alike
    def test_any_bytes_give_content_or_an_error_of_ours(self, name: str, data: bytes) -> None:
        try:
            unpack(name, data)
        except QBackupError as error:
            assert isinstance(error, (Damaged, LimitExceeded))

    @pytest.mark.usefixtures("library")
    def test_thousands_of_empty_streams_cost_no_memory(self) -> None:
        data = gzip.compress(b"", mtime=0) * 20_000 + gzip.compress(SMALL)
        assert list(map(bytes, pieces("gzip", data))) == [SMALL]

    @pytest.mark.slow
    def test_an_inner_archive_goes_through_every_filter(self, tools: None) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            info = tarfile.TarInfo("vm1/private.img")
            info.size = len(TEXT)
            tar.addfile(info, io.BytesIO(TEXT))
        for name in FILTERS:
            assert unpack(name, compress(name, out.getvalue())) == out.getvalue()


def member(
    content: bytes = SMALL,
    *,
    flags: int = 0,
    extra: bytes | None = None,
    file_name: bytes | None = None,
    comment: bytes | None = None,
    header_sum: int | None = None,
    method: int = 8,
    crc: int | None = None,
    length: int | None = None,
) -> bytes:
    """A gzip stream as RFC 1952 has it, section 2.3, right but for what is named.

    Args:
        header_sum: None: the header has no checksum; 0: the right one; else XORed with it.
    """
    raw = zlib.compressobj(wbits=-15)
    body = raw.compress(content) + raw.flush()
    fields = b""
    if extra is not None:
        flags, fields = flags | 4, len(extra).to_bytes(2, "little") + extra
    if file_name is not None:
        flags, fields = flags | 8, fields + file_name + b"\0"
    if comment is not None:
        flags, fields = flags | 16, fields + comment + b"\0"
    flags |= 0 if header_sum is None else 2
    front = b"\x1f\x8b" + bytes([method, flags]) + bytes(6) + fields
    if header_sum is not None:
        front += (zlib.crc32(front) & 0xFFFF ^ header_sum).to_bytes(2, "little")
    crc = zlib.crc32(content) if crc is None else crc
    length = len(content) if length is None else length
    return front + body + crc.to_bytes(4, "little") + length.to_bytes(4, "little")


optional_field = st.none() | st.binary(max_size=40).map(lambda text: text.replace(b"\0", b"0"))


@pytest.mark.usefixtures("library")
class TestGzip:
    """What RFC 1952 says of it, by each library and wherever the chunks are cut."""

    PIECES = (1, 2, 3, 5, 11, 100_000)

    @given(
        content=st.binary(max_size=100),
        flags=st.integers(0, 1),
        extra=optional_field,
        file_name=optional_field,
        comment=optional_field,
        header_sum=st.sampled_from([None, 0]),
        chunk=st.integers(1, 60),
    )
    @each_example_alike
    def test_a_header_may_have_any_field(self, content: bytes, chunk: int, **fields: Any) -> None:
        stored = member(content, **fields)
        assert gzip.decompress(stored) == content
        assert unpack("gzip", stored, chunk=chunk) == content
        assert unpack("gzip", member(SMALL) + 2 * stored, chunk=chunk) == SMALL + 2 * content

    def test_a_header_may_be_longer_than_what_is_read_at_once(self) -> None:
        stored = member(extra=bytes(65_535), file_name=b"n" * 100_000, comment=b"c" * 100_000)
        assert unpack("gzip", stored) == SMALL

    @pytest.mark.parametrize("piece", PIECES)
    @pytest.mark.parametrize(
        "stored",
        [
            member(crc=zlib.crc32(SMALL) ^ 1),
            member(crc=0),
            member(length=len(SMALL) + 1),
            member(length=0),
            member(header_sum=1),
            member(header_sum=0x8000),
            member(method=0),
            member(method=9),
            member(flags=0x20),
            member(flags=0x40),
            member(flags=0x80),
            b"\x1f\x8c" + member()[2:],
            b"\x1e" + member()[1:],
        ],
        ids=[
            "checksum",
            "no checksum",
            "length",
            "no length",
            "header's checksum",
            "header's checksum, high",
            "method 0",
            "method 9",
            "flag 5",
            "flag 6",
            "flag 7",
            "second byte",
            "first byte",
        ],
    )
    def test_what_is_wrong_in_a_stream_is_damage(self, stored: bytes, piece: int) -> None:
        """Also after a stream that is right."""
        for data in (stored, member() + stored, stored + member()):
            with pytest.raises(Damaged, match="the gzip stream is"):
                unpack("gzip", data, chunk=piece)

    def test_the_end_of_a_stream_may_be_cut_between_chunks(self) -> None:
        for stored in (member(), member(header_sum=0), member(b""), member(file_name=b"n")):
            for cut in range(len(stored) + 1):
                events = [
                    Data(memoryview(bytearray(part)))
                    for part in (stored + stored[:cut], stored[cut:])
                ]
                assert unpack("gzip", events) == 2 * gzip.decompress(stored)

    def test_what_is_not_compressed_at_all_is_damage(self) -> None:
        for data in (SMALL, TEXT, bytes(100), b"\x1f", b"\x1f\x8b", b"\x1f\x8b\x08"):
            with pytest.raises(Damaged):
                unpack("gzip", data)


@pytest.mark.usefixtures("library")
class TestGzipDecoders:
    """One stream, called as the filter calls them."""

    @pytest.fixture
    def decoder(self, library: str) -> Decoder:
        return IsalDecoder() if library == "isal" else ZlibDecoder()

    def test_the_one_that_is_there_is_used(self, library: str) -> None:
        assert gzip_library() == library
        kind = {"isal": IsalDecoder, "zlib": ZlibDecoder}[library]
        assert type(decoders._gzip(Limits())) is kind

    @pytest.mark.parametrize("header_sum", [None, 0])
    @pytest.mark.parametrize("length", [1, 7, 1000, 1 << 17])
    def test_gives_no_more_than_was_asked_for(
        self, decoder: Decoder, length: int, header_sum: int | None
    ) -> None:
        content = TEXT[:5000] + bytes(200_000 if length > 100 else 100)
        data = member(content, header_sum=header_sum) + b"rest"
        out = []
        while not decoder.eof:
            out.append(decoder.decompress(data, length))
            data = b""
            assert len(out[-1]) <= length
            assert not decoder.needs_input
        assert b"".join(out) == content
        assert decoder.unused_data == b"rest"

    def test_says_when_it_needs_input(self, decoder: Decoder) -> None:
        stored = member(TEXT)
        assert decoder.needs_input
        out = b""
        for at in range(0, len(stored), 1000):
            out += decoder.decompress(memoryview(stored)[at : at + 1000], 1 << 20)
            assert decoder.needs_input or decoder.eof
        assert decoder.eof
        assert not decoder.needs_input
        assert out == TEXT
        assert decoder.unused_data == b""

    @pytest.mark.parametrize("header_sum", [None, 0])
    def test_gives_all_that_it_can_before_it_asks_for_more(
        self, library: str, header_sum: int | None
    ) -> None:
        """One byte of input may stand for hundreds of output, of which some are held back."""
        make = IsalDecoder if library == "isal" else ZlibDecoder
        stored = member(bytes(1000) + TEXT[:100], header_sum=header_sum)
        for cut in range(len(stored)):
            at_once = make().decompress(stored[:cut], 10_000)
            decoder = make()
            out = decoder.decompress(stored[:cut], 1)
            while not decoder.needs_input:
                out += decoder.decompress(b"", 1)
            assert out == at_once

    def test_takes_nothing_for_nothing(self, decoder: Decoder) -> None:
        stored = member()
        out = b""
        for at in range(len(stored)):
            assert decoder.needs_input
            assert not decoder.eof
            assert decoder.decompress(b"", 100) == b""
            out += decoder.decompress(stored[at : at + 1], 100)
        assert decoder.eof
        assert out == SMALL

    def test_what_follows_the_end_is_left(self, decoder: Decoder) -> None:
        rest = b"\0what follows" * 1000
        assert decoder.decompress(memoryview(bytearray(member() + rest)), 100) == SMALL
        assert decoder.eof
        assert decoder.unused_data == rest


class TestIsal:
    @pytest.fixture(autouse=True)
    def is_here(self) -> None:
        need_isal()

    @pytest.fixture
    def cleared(self, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
        """What SHA-512 was computed of: that is what frees the vector registers."""
        calls: list[bytes] = []
        sha512 = hashlib.sha512

        def counted(data: bytes) -> Any:
            calls.append(data)
            return sha512(data)

        monkeypatch.setattr(hashlib, "sha512", counted)
        return calls

    def test_leaves_no_vector_register_in_use(self, cleared: list[bytes]) -> None:
        decoder = IsalDecoder()
        stored = member(bytes(1000))
        for count in range(1, 11):
            decoder.decompress(stored if count == 1 else b"", 100)
            assert len(cleared) == count

    def test_leaves_none_when_it_fails(self, cleared: list[bytes]) -> None:
        decoder = IsalDecoder()
        with pytest.raises(Exception, match="rror"):
            decoder.decompress(b"no gzip at all", 100)
        assert len(cleared) == 1

    @pytest.mark.parametrize("error", [ImportError, OSError])
    def test_that_can_not_be_loaded_is_not_missed(
        self, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
    ) -> None:
        def broken() -> None:
            raise error("igzip_lib.so: cannot open shared object file")

        monkeypatch.setattr("isal.igzip_lib.IgzipDecompressor", lambda flag: broken())
        assert gzip_library() == "zlib"
        assert unpack("gzip", gzip.compress(SMALL)) == SMALL

    def test_is_not_imported_before_it_is_needed(self) -> None:
        program = (
            "import sys, qbackup.content.filters as c\n"
            "print('isal' in sys.modules)\n"
            "c.choose_filter('gzip', None, c.Limits())\n"
            "print('isal' in sys.modules)\n"
        )
        out = subprocess.check_output([sys.executable, "-c", program], text=True)
        assert out.split() == ["False", "True"]


RECORD = 10_240
BEYOND = [RECORD, RECORD + 1, 3 * RECORD, 100_000]


def onto_a_pipe(name: str, tmp_path: Path, size: int) -> tuple[bytes, bytes]:
    """An archive, and its stream as the real tar fills it up."""
    (tmp_path / "file").write_bytes(random.Random(size).randbytes(size))
    with inner_tar(tmp_path / "file", "", compression_filter=None, named_pipe=True) as plain:
        archive = plain.read()
    with inner_tar(tmp_path / "file", "", compression_filter=name, named_pipe=True) as stream:
        return archive, stream.read()


class TestPadding:
    """Zeros behind a stream, as tar writes them onto a named pipe, and what is damage."""

    @each_filter
    @rows("size", [0, 3000, 9000, 30_000])
    def test_tar_s_own_is_passed(self, tools: None, name: str, size: int, tmp_path: Path) -> None:
        archive, stream = onto_a_pipe(name, tmp_path, size)
        assert len(stream) % RECORD == 0 and not stream[-1]
        for chunk in (1, 100, len(stream.rstrip(b"\0")), RECORD, 100_000):
            assert unpack(name, stream, chunk=chunk) == archive

    @each_filter
    def test_up_to_a_byte_less_than_a_record(self, small: dict[str, bytes], name: str) -> None:
        for count in (1, 2, 511, 512, 5000, RECORD - 1):
            for chunk in (999, 100_000):
                assert unpack(name, small[name] + bytes(count), chunk=chunk) == SMALL

    @each_filter
    def test_a_record_or_more_is_damage(self, small: dict[str, bytes], name: str) -> None:
        for count in BEYOND:
            for chunk in (999, 100_000):
                with pytest.raises(Damaged, match="10,240 zeros or more"):
                    unpack(name, small[name] + bytes(count), chunk=chunk)

    @each_filter
    @pytest.mark.parametrize("zeros", [1, 77, RECORD - 1])
    def test_nothing_may_follow(self, small: dict[str, bytes], name: str, zeros: int) -> None:
        for behind in (b"x", b"\1" + bytes(9), small[name]):
            for chunk in (50, 100_000):
                with pytest.raises(Damaged, match="something behind the zeros"):
                    unpack(name, small[name] + bytes(zeros) + behind, chunk=chunk)

    @each_filter
    def test_it_is_no_end_of_a_cut_stream(self, small: dict[str, bytes], name: str) -> None:
        with pytest.raises(Damaged):
            unpack(name, small[name][:-20] + bytes(20))
        if name != "lzma":  # of which they are a header that promises nothing
            with pytest.raises(Damaged):
                unpack(name, bytes(RECORD - 1))

    @pytest.mark.parametrize("name", ["bzip2", "pbzip2", "zstd", "zstdmt", "gzip", "pigz", "xz"])
    @pytest.mark.parametrize("size", [0, 3000, 30_000])
    def test_a_program_that_the_user_named_is_not_troubled(
        self, tools: None, name: str, size: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        archive, stream = onto_a_pipe(name, tmp_path, size)
        program = shutil.which(name)
        for chunk in (len(stream.rstrip(b"\0")) + 1, 7001):
            assert unpack(None, stream, override=program, chunk=chunk) == archive
        assert capfd.readouterr().err == ""
        bare = stream.rstrip(b"\0")
        with pytest.raises(Damaged, match="10,240 zeros or more"):
            unpack(None, bare + bytes(2 * RECORD), override=program)

    @rows("name", ["bzip2", "zstd", "gzip", "xz"])
    def test_zeros_at_a_stream_s_own_end_stay(self, tools: None, name: str, tmp_path: Path) -> None:
        """Some of two hundred streams end so, and one of nothing does."""
        streams = [compress(name, b"%d" % n) for n in range(200)] + [compress(name, b"")]
        ending = [stream for stream in streams if not stream[-1]]
        for stream in ending[-9:]:
            content = unpack(name, stream)
            for count in (0, 1, 100):
                program = shutil.which(name)
                assert unpack(None, stream + bytes(count), override=program) == content

    def test_a_program_that_stumbles_over_it_is_told_of_with_the_reason(
        self, tools: None, tmp_path: Path
    ) -> None:
        _, stream = onto_a_pipe("lzma", tmp_path, 3000)
        with pytest.raises(Damaged, match="zeros stand at the stream's end"):
            unpack(None, stream, override=shutil.which("lzma"))

    def test_zeros_within_a_stream_reach_a_program(self, tools: None) -> None:
        stream = compress("zstd", bytes(5) + os.urandom(70_000) + bytes(40_000) + b"x")
        assert unpack(None, stream, override=shutil.which("zstd")) == unpack("zstd", stream)
        raw = b"x" + bytes(50_000) + b"y" + bytes(70_000)
        assert unpack(None, raw, override="sh -c cat") == raw
