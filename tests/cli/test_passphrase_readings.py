"""Which passphrases a file's bytes can mean, and in which order they are tried."""

from __future__ import annotations

import random
import unicodedata

import pytest

from qbackup.base.errors import UsageError
from qbackup.cli.passphrase_readings import (
    READINGS_LIMIT,
    Reading,
    readings_of_file,
    readings_of_text,
)

NFC = "Gr\u00fc\u00dfe"
NFD = unicodedata.normalize("NFD", NFC)


def passphrases(data: bytes) -> list[bytes]:
    """Readings that are tried, in order."""
    return [reading.passphrase for reading in readings_of_file(data, "the file")]


class TestFile:
    @pytest.mark.parametrize("data", [b"secret", b"secret\n", b"secret\r\n", b" secret words\n"])
    def test_plain_ascii_has_one_reading(self, data: bytes) -> None:
        (reading,) = readings_of_file(data, "the file")
        assert reading == Reading(data.rstrip(b"\r\n"))

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (b"secret \n", ["secret ", "secret"]),
            (b"  \n", ["  "]),
            (NFC.encode(), [NFC, NFD]),
            (NFD.encode(), [NFD, NFC]),
            ((NFC + " ").encode(), [NFC + " ", NFC, NFD + " ", NFD]),
            ((NFC + "\u00a0").encode(), [NFC + "\u00a0", NFC, NFD + "\u00a0", NFD]),
            ("\ufeffsecret".encode(), ["\ufeffsecret", "secret"]),
            (
                f"\ufeff{NFC} ".encode(),
                [f"\ufeff{NFC} ", f"\ufeff{NFC}", f"{NFC} ", NFC, f"{NFD} ", NFD],
            ),
            ("secret\r\n".encode("utf-16-le"), ["secret"]),
            ("secret\r\n".encode("utf-16-be"), ["secret"]),
            (b"one\ntwo", ["one"]),
        ],
    )
    def test_order(self, data: bytes, expected: list[str]) -> None:
        assert passphrases(data) == [text.encode() for text in expected]

    def test_bytes_that_are_no_utf_8_are_tried_as_they_are_first(self) -> None:
        assert passphrases(NFC.encode("latin-1")) == [
            NFC.encode("latin-1"),
            NFC.encode(),
            NFD.encode(),
        ]
        assert passphrases(b"\x80uro")[:2] == [b"\x80uro", "\u20acuro".encode()]
        assert passphrases(b"\x81x")[:2] == [b"\x81x", "\x81x".encode()]  # no Windows-1252

    def test_a_utf_16_file_without_nul_bytes(self) -> None:
        data = "\u5bc6\u7801".encode("utf-16")  # with a mark, of the machine's own order
        assert passphrases(data) == [data, "\u5bc6\u7801".encode()]

    @pytest.mark.parametrize(
        "data",
        [
            ("\ufeff" + NFD + " ").encode(),
            (NFD + "\u00e9 \t").encode(),
            b"\xff\xfe" + (NFC + "e\u0301 ").encode("utf-16-le"),
            b"\xff" + NFC.encode() + b" ",
            bytes(range(1, 256)),
        ],
    )
    def test_there_are_few_and_each_comes_once(self, data: bytes) -> None:
        tried = passphrases(data)
        assert len(tried) == len(set(tried)) <= READINGS_LIMIT

    @pytest.mark.parametrize("data", [b"", b"\n", b"\nsecret", b"\0", b"a\0b", b"\xff\xfe\0"])
    def test_what_is_no_passphrase(self, data: bytes) -> None:
        with pytest.raises(UsageError, match=r"^(the first line of )?the file is"):
            passphrases(data)

    def test_any_bytes_are_read_or_refused(self) -> None:
        dice = random.Random(1)
        marks = (b"", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")
        for _ in range(2000):
            letters = dice.choice((bytes(range(256)), b"\0a\n\r \xe9", b"a\xcc\x88\xc3\xa4"))
            data = dice.choice(marks) + bytes(dice.choices(letters, k=dice.randrange(12)))
            try:
                tried = passphrases(data)
            except UsageError:
                continue
            assert 1 <= len(tried) == len(set(tried)) <= READINGS_LIMIT
            assert all(tried) and not any(end in text for text in tried for end in (b"\n", b"\0"))

    def test_no_passphrase_in_what_is_said_or_shown(self) -> None:
        for data in ((NFD + " \nx").encode(), ("\ufeff" + NFC).encode("utf-16")):
            for reading in readings_of_file(data, "the file"):
                assert not any(text in repr(reading) for text in (NFC, NFD, "Gr"))


class TestTyped:
    def test_only_the_form_of_letters_is_another_reading(self) -> None:
        def tried(text: str) -> list[bytes]:
            return [r.passphrase for r in readings_of_text(text.encode(), "what was typed")]

        assert tried("secret ") == [b"secret "]
        assert tried(NFC) == [NFC.encode(), NFD.encode()]
        assert tried(NFD) == [NFD.encode(), NFC.encode()]
