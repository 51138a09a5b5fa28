"""The filter that a header names is any string: what the user of Qubes typed.

A known program is known with a path and options; another one is "not supported", and a filter that
the user forces counts whatever the header says. With `--salvage` the same holds.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

import qbackup
from qbackup import UnsupportedFormat
from qbackup.base.limits import Limits
from qbackup.content.filters import choose_filter, decoder_name, other_filter, same_filter
from qbackup.content.slices import raw
from tests.support.commandline import call
from tests.support.sources import ReadOnly
from tests.support.speed import rows
from tests.testkit import vector

KNOWN = [
    "header-filter-with-a-path",
    "header-filter-with-a-level",
    "header-filter-with-zstd-options",
    "header-filter-with-path-and-options",
    "header-filter-odd-not-used",
    "v3-header-filter-with-a-path",
]
UNKNOWN = [
    "header-filter-a-path",
    "header-filter-not-ascii",
    "header-filter-unknown",
    "header-compression-filter-empty",
    "header-compression-filter-missing",
]


def of(name: str, folder: Path) -> tuple[vector.Vector, Path]:
    """A vector of the testkit, and its backup as a file."""
    chosen = vector.parse(name, vector.path_of(name).read_bytes())
    path = folder / "backup"
    path.write_bytes(chosen.backup)
    (folder / "passphrase").write_bytes(chosen.passphrase + b"\n")
    return chosen, path


@rows("name", KNOWN, quick=2)
class TestKnownFilters:
    def test_verify_from_a_file_a_pipe_and_with_salvage(self, name: str, tmp_path: Path) -> None:
        chosen, path = of(name, tmp_path)
        with qbackup.open(path, passphrase=chosen.passphrase) as archive:
            assert archive.verify().ok
        with contextlib.closing(ReadOnly(path)) as pipe:
            source: Any = pipe
            with qbackup.open(source, passphrase=chosen.passphrase) as archive:
                assert archive.verify().ok
        with qbackup.open(path, passphrase=chosen.passphrase, salvage=True) as archive:
            assert archive.verify().ok and archive.salvaged == ()

    def test_what_the_header_says_is_shown_without_a_passphrase(
        self, name: str, tmp_path: Path
    ) -> None:
        _, path = of(name, tmp_path)
        ended = call("info", str(path), "--json")
        assert ended.status == 0
        assert ended.document["authenticated"] is False
        with qbackup.open(path) as archive:
            said = archive.untrusted_header.compression_filter
        assert ended.document["header"]["compression_filter"] == said


@rows("name", UNKNOWN, quick=2)
class TestUnknownFilters:
    @pytest.mark.parametrize("salvage", [False, True])
    def test_are_not_supported_and_the_option_is_named(
        self, name: str, tmp_path: Path, salvage: bool
    ) -> None:
        chosen, path = of(name, tmp_path)
        with pytest.raises(UnsupportedFormat, match="--compression-filter") as caught:
            qbackup.open(path, passphrase=chosen.passphrase, salvage=salvage)
        assert "damage" not in str(caught.value) and str(caught.value).isprintable()

    def test_a_forced_filter_beats_the_header(self, name: str, tmp_path: Path) -> None:
        chosen, path = of(name, tmp_path)
        for salvage in (False, True):
            with qbackup.open(
                path, passphrase=chosen.passphrase, compression_filter="gzip", salvage=salvage
            ) as archive:
                assert archive.verify().ok

    def test_status_4_and_nothing_raw_on_the_terminal(self, name: str, tmp_path: Path) -> None:
        _, path = of(name, tmp_path)
        ended = call("list", str(path), "-p", str(tmp_path / "passphrase"))
        assert ended.status == 4
        assert "--compression-filter" in ended.err
        assert call("info", str(path)).status == 0


class TestChoosing:
    @pytest.mark.parametrize(
        ("words", "name"),
        [
            ("gzip", "gzip"),
            ("/usr/bin/pigz", "pigz"),
            ("gzip -3", "gzip"),
            ("  zstd\t-T0", "zstd"),
            ("a/b/xz --threads=2", "xz"),
            ("sh -c gzip", "sh"),
            ("gzip/", ""),
            ("", ""),
            ("   ", ""),
            (None, None),
        ],
    )
    def test_the_name_is_the_last_part_of_the_first_word(
        self, words: str | None, name: str | None
    ) -> None:
        assert decoder_name(words) == name

    @pytest.mark.parametrize("words", ["/bin/sh -c 'gzip'", "$(reboot)", "\x1b[2J", "x" * 9999])
    def test_a_name_that_is_not_plain_is_never_put_into_a_command(self, words: str) -> None:
        with pytest.raises(UnsupportedFormat) as caught:
            choose_filter(words, None, Limits())
        assert str(caught.value).isprintable() and len(str(caught.value)) < 400
        command = str(caught.value).rpartition("--compression-filter ")[2]
        assert command in ("NAME", "sh")

    def test_one_journal_for_one_decoder(self) -> None:
        assert same_filter(decoder_name("/usr/bin/pigz -9")) == same_filter("gzip")
        assert other_filter("/usr/bin/pigz -9", "gzip") == ""
        assert "the header says xz -9" in other_filter("xz -9", "gzip")
        assert choose_filter("xz", "none", Limits()) is raw
