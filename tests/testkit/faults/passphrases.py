"""Passphrases: any bytes but NUL and line ends. One that is nearly right is wrong."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from tests.testkit.scene import PASSPHRASE
from tests.testkit.scenes import Scenes
from tests.testkit.vector import Vector

#: What the scrypt program reads of `BACKUP_ID!NAME!PASSPHRASE`.
LINE_BYTES = 2047
POLISH = "zażółć gęślą jaźń"


def vectors(scenes: Scenes) -> Iterator[Vector]:
    """See the module's text."""
    yield from _wrong(scenes)
    yield from _right(scenes)
    yield from _long(scenes)


def _wrong(scenes: Scenes) -> Iterator[Vector]:
    spellings = {
        "other": "incorrect horse battery staple",
        "case": PASSPHRASE.capitalize(),
        "space-in-front": " " + PASSPHRASE,
        "letter-less": PASSPHRASE[:-1],
        "with-the-id": "20240917T101112-1234!" + PASSPHRASE,
    }
    for name, secret in spellings.items():
        yield scenes.plain.vector(
            f"passphrase-wrong-{name}",
            f"the passphrase is not the backup's ({name.replace('-', ' ')})",
            scenes.plain.members,
            expect="wrong passphrase",
            passphrase=secret,
        )
    scene = scenes.one_qube("composed", passphrase=POLISH)
    yield scene.vector(
        "passphrase-wrong-decomposed",
        "the passphrase's letters are decomposed (NFD), the backup's are not",
        scene.members,
        expect="wrong passphrase",
        passphrase=unicodedata.normalize("NFD", POLISH),
    )


def _right(scenes: Scenes) -> Iterator[Vector]:
    spellings = {
        "utf-8": (POLISH, "is not ASCII"),
        "decomposed": (unicodedata.normalize("NFD", POLISH), "is in decomposed letters (NFD)"),
        "emoji": ("\U0001f511\U0001f40e", "is of characters past 16 bits"),
        "one-letter": ("x", "has one letter"),
        "separators": ("a!b!!c", "holds the separator"),
        "space-in-front": ("  secret words", "begins with spaces"),
        "space-behind": ("secret words  ", "ends with spaces, which are part of it"),
        "tab-behind": ("secret words\t", "ends with a tab, which is part of it"),
        "quotes": ("'\"`$(id)\\n%s{}", "is full of what shells and formats know"),
        "controls": ("secret\x01\x1b[31mwords\x7f", "holds control characters"),
        "looks-like-a-flag": ("--passphrase-file", "looks like an option"),
    }
    for name, (secret, comment) in spellings.items():
        scene = scenes.one_qube(f"passphrase-{name}", passphrase=secret)
        yield scene.vector(f"passphrase-{name}", f"the passphrase {comment}", scene.members)


def _long(scenes: Scenes) -> Iterator[Vector]:
    """The longest prefix is `20240917T101112-1234!vm1/private.img.000!`, 41 bytes."""
    longest = "vm1/private.img.000"
    room = LINE_BYTES - len(f"20240917T101112-1234!{longest}!")
    for name, size, comment in (
        ("fits", room, "just fits into what scrypt reads of its line, 2047 bytes"),
        ("a-byte-too-long", room + 1, "is a byte longer than what scrypt reads of its line"),
        ("too-long", 5000, "is 5000 bytes long; scrypt reads 2047 of its line"),
    ):
        scene = scenes.one_qube(
            f"long-{name}", passphrase="0123456789abcdef" * (size // 16) + "x" * (size % 16)
        )
        yield scene.vector(f"passphrase-long-{name}", f"the passphrase {comment}", scene.members)
    secret = "y" * (room - 1) + "\u00fc" * 20
    scene = scenes.one_qube("long-utf-8", passphrase=secret)
    yield scene.vector(
        "passphrase-long-cut-in-a-letter",
        "the passphrase is cut at 2047 bytes of its line in the middle of a UTF-8 letter",
        scene.members,
    )
