"""A vector: a text head that says what must happen, an empty line, then the backup.

The format is described, for those who run the vectors with another program, in
`docs/testkit.md`.
"""

from __future__ import annotations

import string
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

FOLDER = Path(__file__).parent / "vectors"
SUFFIX = ".vector"

#: What can be expected → the exit statuses that go with it, the usual one first.
EXPECTATIONS: dict[str, tuple[int, ...]] = {
    "success": (0,),
    "file damaged": (1,),
    "file missing": (1,),
    "name refused": (1,),
    "archive damaged": (1,),
    "limit": (1, 4),
    "wrong passphrase": (3,),
    "header altered": (3,),
    "not a backup": (4,),
    "unsupported": (4,),
}
FILE_ERRORS = ("damaged", "limit", "missing", "refused")
SOURCES = ("any", "file", "pipe")

_PLAIN = "".join(sorted({*string.printable} - {*string.whitespace} - {"%"}))
_ZLIB = "zlib"


@dataclass(frozen=True, kw_only=True)
class Vector:
    """One backup and what must come of it.

    Args:
        name: of its file, without the suffix.
        comment: what the fault is, one line.
        expect: a key of `EXPECTATIONS`.
        exit: exit status of a restore of everything.
        passphrase: to unlock it with.
        backup: the bytes.
        files: path below the output folder → size and SHA-256, as `restored.content` has them.
        links: path of a symbolic link → its target.
        lost: QUBE/FILE → one of `FILE_ERRORS`.
        warnings: names that a restore must mention, though nothing of value is lost.
        source: ``file`` or ``pipe`` where only one of them gives this result.
        options: of the command line, such as ``--salvage``.
        format: of the backup.
    """

    name: str
    comment: str
    expect: str
    exit: int
    passphrase: bytes
    backup: bytes = field(repr=False)
    files: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    lost: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    source: str = "any"
    options: tuple[str, ...] = ()
    format: int = 4

    def head(self) -> str:
        """The text head, without the empty line at its end."""
        return "".join(f"{key}: {value}\n" for key, value in self._lines())

    def _lines(self) -> Iterator[tuple[str, str]]:
        yield "comment", self.comment
        yield "format", str(self.format)
        yield "expect", self.expect
        yield "exit", str(self.exit)
        yield "passphrase", quoted(self.passphrase)
        if self.source != "any":
            yield "source", self.source
        if self.options:
            yield "options", " ".join(self.options)
        for name, what in sorted(self.lost.items()):
            yield "lost", f"{what} {quoted(name)}"
        for name in self.warnings:
            yield "warning", quoted(name)
        for path, content in sorted(self.files.items()):
            yield "file", f"{content} {quoted(path)}"
        for path, target in sorted(self.links.items()):
            yield "link", f"{quoted(path)} {quoted(target)}"

    def to_bytes(self) -> bytes:
        """The vector's file."""
        small = zlib.compress(self.backup, 9)
        shrinks = len(small) < len(self.backup)
        line = f"compressed: {_ZLIB}\n" if shrinks else ""
        return (self.head() + line + "\n").encode("ascii") + (small if shrinks else self.backup)


def quoted(text: str | bytes) -> str:
    """Any bytes as printable ASCII without spaces, the others written as `%XX`."""
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return quote(data, safe=_PLAIN)


def unquoted(text: str) -> str:
    """What `quoted` made this from."""
    return unquote_to_bytes(text).decode("utf-8", "surrogateescape")


def parse(name: str, data: bytes) -> Vector:
    """Reads a vector's file.

    Raises:
        ValueError: a line that is none of the known ones.
    """
    head, _, body = data.partition(b"\n\n")
    one: dict[str, str] = {}
    files, links, lost, warnings = {}, {}, {}, []
    for line in head.decode("ascii").split("\n"):
        key, colon, value = line.partition(": ")
        if key == "file":
            size, digest, path = value.split(" ")
            files[unquoted(path)] = f"{size} {digest}"
        elif key == "link":
            path, target = value.split(" ")
            links[unquoted(path)] = unquoted(target)
        elif key == "lost":
            what, path = value.split(" ")
            lost[unquoted(path)] = what
        elif key == "warning":
            warnings.append(unquoted(value))
        elif not colon or key in one:
            raise ValueError(f"{name}: {line!r}")
        else:
            one[key] = value
    compressed = one.pop("compressed", None) == _ZLIB
    return Vector(
        name=name,
        comment=one.pop("comment"),
        format=int(one.pop("format")),
        expect=one.pop("expect"),
        exit=int(one.pop("exit")),
        passphrase=unquote_to_bytes(one.pop("passphrase")),
        source=one.pop("source", "any"),
        options=tuple(one.pop("options", "").split()),
        files=files,
        links=links,
        lost=lost,
        warnings=tuple(warnings),
        backup=zlib.decompress(body) if compressed else body,
        **_none_left(name, one),
    )


def _none_left(name: str, unknown: Mapping[str, str]) -> dict[str, str]:
    if unknown:
        raise ValueError(f"{name}: unknown keys {', '.join(unknown)}")
    return {}


def names() -> list[str]:
    """Names of the committed vectors."""
    return sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))


def path_of(name: str) -> Path:
    """The file of one vector."""
    return FOLDER / f"{name}{SUFFIX}"


def load(name: str) -> Vector:
    """One committed vector."""
    return parse(name, path_of(name).read_bytes())
