"""Names from a backup: which chunk they stand for, and what becomes a path or reaches a screen."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import tarfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbackup.base.names import (
    ChunkName,
    begins_as_tar_matches,
    decode,
    display,
    encode,
    folded,
    json_name,
    parse_chunk_name,
    too_deep,
    unsafe_reason,
    within,
)

PATHS = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20),
    min_size=1,
    max_size=4,
).map("/".join)


class TestBytes:
    @given(st.binary())
    def test_any_bytes_survive_the_way_in_and_out(self, name: bytes) -> None:
        assert encode(decode(name)) == name


class TestChunkNumbers:
    @given(PATHS, st.integers(0, 999_999_999))
    def test_what_a_chunk_name_prints_is_read_back(self, path: str, index: int) -> None:
        name = ChunkName(path, index)
        expected = None if unsafe_reason(path) else name
        assert parse_chunk_name(str(name)) == expected

    @pytest.mark.parametrize(
        ("name", "index"),
        [("a.000", 0), ("a.999", 999), ("a.1000", 1000), ("a.999999999", 999_999_999)],
    )
    def test_numbers_have_three_digits_and_go_on_past_999(self, name: str, index: int) -> None:
        assert parse_chunk_name(name) == ChunkName("a", index)

    @pytest.mark.parametrize(
        "name",
        [
            "a.0000",
            "a.01000",
            "a.00",
            "a.0",
            "a.",
            "a",
            "a.000x",
            "a.000\n",
            "a.-01",
            "a.+01",
            "a. 01",
            "a.1_0",
            "a.1234567890",
            ".000",
            "a.\u0660\u0660\u0660",
            "a.\uff10\uff10\uff11",
            "a.000.enc",
        ],
    )
    def test_each_number_is_spelled_in_one_way(self, name: str) -> None:
        assert parse_chunk_name(name) is None

    def test_only_the_last_number_counts(self) -> None:
        assert parse_chunk_name("vm1/disk.001.002") == ChunkName("vm1/disk.001", 2)

    @pytest.mark.parametrize(
        "path", ["/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", "a\nb", "a\x1bb", "a" * 256]
    )
    def test_a_path_that_could_lead_elsewhere_is_nobodys_chunk(self, path: str) -> None:
        assert parse_chunk_name(f"{path}.000") is None


class TestHostilePaths:
    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            ("", "empty"),
            ("/a", "absolute"),
            ("/", "absolute"),
            ("..", "leads out"),
            ("a/../b", "leads out"),
            ("a/..", "leads out"),
            (".", "not plain"),
            ("./a", "not plain"),
            ("a/./b", "not plain"),
            ("a//b", "not plain"),
            ("a/", "not plain"),
            ("a\0b", "NUL"),
            ("a\tb", "control"),
            ("a\x7fb", "control"),
            ("x" * 256, "longer than 255"),
            ("a/" + "x" * 256, "longer than 255"),
            ("é" * 128, "longer than 255"),
            ("\udcff" * 256, "longer than 255"),
        ],
    )
    def test_are_refused_with_the_reason(self, path: str, reason: str) -> None:
        assert reason in (unsafe_reason(path) or "")

    @pytest.mark.parametrize(
        "path",
        [
            "a",
            ".bashrc",
            "..a",
            "...",
            "a/b/c",
            " a ",
            "-rf",
            "x" * 255,
            "é" * 127,
            "\udcff",
            "a\\b",
        ],
    )
    def test_ordinary_ones_are_not(self, path: str) -> None:
        assert unsafe_reason(path) is None

    def test_a_home_may_hold_control_characters_in_names_but_no_nul(self) -> None:
        assert unsafe_reason("a\nb/\x1b[31m", any_byte=True) is None
        assert unsafe_reason("a\0b", any_byte=True) == "the name holds a NUL character"
        assert unsafe_reason("a\n/../b", any_byte=True) == "the name leads out of its folder"

    @given(st.text(st.sampled_from("./a \n\0é-"), max_size=12))
    def test_what_is_let_through_stays_below_its_folder(self, path: str) -> None:
        if unsafe_reason(path) is None:
            components = path.split("/")
            assert all(c not in ("", ".", "..") for c in components)
            assert path.isprintable()


class TestDepth:
    def test_up_to_the_limit_is_no_error(self) -> None:
        assert too_deep("a/b/c", 3) is None
        assert too_deep("a", 1) is None

    def test_an_error_names_the_limit_and_its_option(self) -> None:
        fault = too_deep("a/b/c", 2)
        assert fault is not None
        assert (fault.limit, fault.needed) == ("depth", 3)
        assert "--limit depth=3" in fault.advice

    def test_a_path_in_it_is_short_and_printable(self) -> None:
        fault = too_deep("\x1b/" * 1100, 256)
        assert fault is not None
        assert len(str(fault)) < 1000
        assert str(fault).isprintable()


class TestWithin:
    @pytest.mark.parametrize(
        ("path", "folder", "rest"),
        [
            ("vm1/private.img", "vm1", "private.img"),
            ("vm1/private.img", "vm1/", "private.img"),
            ("vm1/a/b", "vm1", "a/b"),
            ("vm12/private.img", "vm1", None),
            ("vm1", "vm1", None),
            ("vm1/", "vm1", None),
            ("xvm1/a", "vm1", None),
        ],
    )
    def test_compares_whole_components(self, path: str, folder: str, rest: str | None) -> None:
        assert within(path, folder) == rest


class TestDisplay:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("vm1/private.img", "vm1/private.img"),
            ("Grüße 日本語", "Grüße 日本語"),
            ("a\x1b[31mred", "a\\x1b[31mred"),
            ("bell\a\r\n\t\0\x7f", "bell\\x07\\x0d\\x0a\\x09\\x00\\x7f"),
            ("c1\x9b31m", "c1\\u009b31m"),
            ("rtl\u202egpj.exe", "rtl\\u202egpj.exe"),
            ("\u2066isolate\u2069", "\\u2066isolate\\u2069"),
            ("zero\u200b\u200d\ufeffwidth", "zero\\u200b\\u200d\\ufeffwidth"),
            ("line\u2028paragraph\u2029", "line\\u2028paragraph\\u2029"),
            ("soft\u00adhyphen", "soft\\u00adhyphen"),
            ("filler\u3164\u115f\uffa0", "filler\\u3164\\u115f\\uffa0"),
            ("joiner\u034f variation\ufe0f", "joiner\\u034f variation\\ufe0f"),
            ("tag\U000e0041\U000e0100", "tag\\U000e0041\\U000e0100"),
            ("private\ue000", "private\\ue000"),
            ("byte\udce9\udc80", "byte\\xe9\\x80"),
            ("surrogate\ud800", "surrogate\\ud800"),
            ("back\\x1bslash", "back\\\\x1bslash"),
        ],
    )
    def test_shows_what_can_not_be_seen(self, text: str, shown: str) -> None:
        assert display(text) == shown

    @given(st.text(st.characters()))
    def test_leaves_nothing_that_a_terminal_acts_on(self, text: str) -> None:
        shown = display(text)
        categories = {unicodedata.category(char) for char in shown}
        assert not categories & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
        assert shown.splitlines() in ([], [shown])

    @given(st.text(st.characters(), max_size=8), st.text(st.characters(), max_size=8))
    def test_two_names_never_look_the_same_escape(self, one: str, other: str) -> None:
        assert (display(one) == display(other)) == (one == other)


class TestJsonNames:
    def test_text_stays_as_it_is(self) -> None:
        assert json_name("é\n") == {"name": "é\n"}

    def test_other_bytes_are_there_in_base64(self) -> None:
        shown = json_name("caf\udce9")
        assert shown["name"] == "caf\\xe9"
        assert base64.b64decode(shown["name_bytes"]) == b"caf\xe9"


class TestFolded:
    def test_names_that_a_file_system_may_take_for_the_same(self) -> None:
        assert folded("Work/a") == folded("work/A")
        assert folded("cafe\u0301") == folded("caf\u00e9")
        assert folded("vault") != folded("vault1")


class TestWhatTarMatches:
    """To the writer's `--xform` a name is a basic regular expression: a dot is any character."""

    NAMES = ("jo.doe", "jo+", "jo*", "user", "a.b.c", ".", "jo?{2}", "jo(x)|y", "x^y")
    TARGETS = (
        "jo.doe/f", "joxdoe/f", "jo/doe", "jodoe", "jo", "j", "joooo/x", "jo+2", "jo*", "user2",
        "use", "jo\ndoe", "jo\udcffdoe/x", "jo\u00e4doe", "axbyc", "a.b", "aaab", "b", "ab",
        "./jo.doe", "/home/jo.doe", "../jo.doe", "dom0-home/jo.doe", "jo?{2}x", "joo?", "jo(x)|y",
        "y", "x^y",
    )  # fmt: skip

    @pytest.mark.parametrize("name", NAMES)
    def test_is_what_tar_itself_matches(self, tools: None, tmp_path: Path, name: str) -> None:
        folder = tmp_path / name if name != "." else tmp_path / "whole"
        folder.mkdir()
        for number, target in enumerate(self.TARGETS):
            (folder / str(number)).symlink_to(target)
        where = ["-C", str(folder if name == "." else tmp_path)]
        command = ["tar", "-Pc", "-f", "-", *where, f"--xform=s:^{name}:dom0-home/\\0:", name]
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(command, capture_output=True, check=True, env=environment)
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            links = {int(m.name.rpartition("/")[2]): m.linkname for m in archive if m.issym()}
        assert len(links) == len(self.TARGETS)
        for number, target in enumerate(self.TARGETS):
            is_changed = links[number] == f"dom0-home/{target}"
            assert is_changed or links[number] == target
            assert begins_as_tar_matches(name, target) == is_changed, target

    @pytest.mark.parametrize("name", ["jo[x]", "jo$", "j\\o"])
    def test_a_name_that_means_something_else_counts_as_itself(self, name: str) -> None:
        assert begins_as_tar_matches(name, f"{name}/x")
        assert not begins_as_tar_matches(name, "jox")

    def test_takes_time_in_proportion(self) -> None:
        """Where a matcher that tries all ways would not come to an end."""
        assert not begins_as_tar_matches(".*" * 120 + "c", "x" * 4000)
        assert begins_as_tar_matches("x*" * 120 + "c", "x" * 4000 + "c")
