"""`backup-header`, key by key. Its copy has a right MAC, so what it says is what was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace as replaced

from tests.maker import replace
from tests.testkit.scene import HEADER, Scene
from tests.testkit.scenes import Scenes
from tests.testkit.vector import Vector

LIMIT = 64 * 1024


def vectors(scenes: Scenes) -> Iterator[Vector]:
    """See the module's text."""
    scene = scenes.small
    yield from _refused(scene)
    yield from _legal(scene)
    yield from _altered(scene)
    yield from _kinds(scenes)


def _without(text: bytes, key: bytes) -> bytes:
    lines = text.splitlines(keepends=True)
    return b"".join(line for line in lines if not line.startswith(key + b"="))


def _with(text: bytes, key: bytes, value: bytes) -> bytes:
    return _without(text, key) + key + b"=" + value + b"\n"


def _refused(scene: Scene) -> Iterator[Vector]:
    text = scene.data(HEADER)
    keys = (b"encrypted", b"compressed", b"compression-filter", b"backup-id")
    for key in keys:
        yield _vector(
            scene,
            f"{key.decode()}-missing",
            f"{key.decode()} is missing",
            _without(text, key),
            expect="unsupported",
        )
    yield _vector(
        scene,
        "version-missing",
        "version is missing, as in format 2",
        _without(text, b"version"),
        expect="unsupported",
    )
    for key in (b"version", *keys, b"hmac-algorithm"):
        line = next(li for li in text.splitlines(keepends=True) if li.startswith(key + b"="))
        yield _vector(
            scene,
            f"{key.decode()}-twice",
            f"{key.decode()} stands there twice",
            text + line,
            expect="unsupported",
        )
    for key in (b"version", b"compression-filter", b"backup-id"):
        yield _vector(
            scene,
            f"{key.decode()}-empty",
            f"{key.decode()} is empty",
            _with(text, key, b""),
            expect="unsupported",
        )
    yield from _refused_values(scene)
    yield from _refused_texts(scene)


def _refused_values(scene: Scene) -> Iterator[Vector]:
    values = {
        "version-0": (b"version", b"0", "unsupported"),
        "version-5": (b"version", b"5", "unsupported"),
        "version-most": (b"version", b"9" * 5000, "unsupported"),
        "version-negative": (b"version", b"-4", "unsupported"),
        "version-fraction": (b"version", b"4.0", "unsupported"),
        "not-encrypted": (b"encrypted", b"False", "unsupported"),
        "encrypted-nonsense": (b"encrypted", b"maybe", "unsupported"),
        "filter-unknown": (b"compression-filter", b"rot13", "unsupported"),
        "filter-a-program": (b"compression-filter", b"sh", "unsupported"),
        "filter-a-path": (b"compression-filter", b"/bin/sh", "unsupported"),
        "filter-with-options": (b"compression-filter", b"gzip -f", "success"),
        "filter-not-ascii": (b"compression-filter", b"caf\xc3\xa9 \xff\xfe\x1b[2J", "unsupported"),
        "filter-ends-in-a-known-one": (b"compression-filter", b"sh -c gzip", "unsupported"),
        "hmac-sha512": (b"hmac-algorithm", b"SHA512", "unsupported"),
    }
    for name, (key, value, expect) in values.items():
        shown = value.decode("ascii", "backslashreplace")
        shown = (
            shown.replace("\x1b", "ESC") if len(value) < 20 else f"a number of {len(value)} digits"
        )
        comment = f"{key.decode()} is {shown}"
        changed = _with(scene.data(HEADER), key, value)
        yield _vector(scene, name, comment, changed, expect=expect)


def _refused_texts(scene: Scene) -> Iterator[Vector]:
    text = scene.data(HEADER)
    texts = {
        "empty": ("it is empty", b"", "header altered"),
        "line-without-equals": ("a line has no equals sign", text + b"hello\n", "unsupported"),
        "not-ascii": ("a comment is not ASCII", text + b"note=caf\xc3\xa9\n", "success"),
        "nul": ("a value holds a NUL", _with(text, b"backup-id", b"a\0b"), "unsupported"),
        "both-ids": ("the id in both spellings", text + b"backup_id=other\n", "unsupported"),
    }
    for name, (comment, data, expect) in texts.items():
        yield _vector(scene, name, comment, data, expect=expect)
    yield scene.vector(
        "header-too-long",
        "backup-header: it is longer than 64 KiB",
        replace(scene.members, HEADER, text + b"x=" + b"y" * LIMIT + b"\n"),
        expect="limit",
        exit=4,
    )


def _legal(scene: Scene) -> Iterator[Vector]:
    text = scene.data(HEADER)
    filler = LIMIT - len(text) - len(b"x=\n")
    texts = {
        "published": (
            "as the published procedure has it: backup_id, no hmac-algorithm",
            _without(text, b"hmac-algorithm").replace(b"backup-id", b"backup_id"),
        ),
        "unknown-key": ("it has a key that nobody knows", text + b"colour=blue\n"),
        "crypto-algorithm": (
            "it names a cipher, as formats 2 and 3 do",
            text + b"crypto-algorithm=aes-256-cbc\n",
        ),
        "booleans": (
            "booleans are written 1 and YES",
            _with(_with(text, b"encrypted", b"1"), b"compressed", b"YES"),
        ),
        "order": (
            "its lines are in reverse order",
            b"".join(reversed(text.splitlines(keepends=True))),
        ),
        "no-last-newline": ("its last line has no newline", text.removesuffix(b"\n")),
        "longest": ("it is as long as can be, 64 KiB", text + b"x=" + b"y" * filler + b"\n"),
    }
    for name, (comment, data) in texts.items():
        yield _vector(scene, name, comment, data, expect="success")


def _altered(scene: Scene) -> Iterator[Vector]:
    """The header alone is changed; its copy says what was written."""
    text = scene.data(HEADER)
    texts = {
        "id": ("another id", text.replace(b"1234", b"1235")),
        "filter": ("another filter", text.replace(b"gzip", b"xz")),
        "compressed": ("not compressed", text.replace(b"compressed=True", b"compressed=False")),
        "unknown-key": ("a key more, which means nothing", text + b"x=y\n"),
        "case": ("a word in capitals, which means the same", text.replace(b"True", b"TRUE")),
        "line-ends": ("other line ends, which mean the same", text.replace(b"\n", b"\r\n")),
        "newline-lost": ("the last newline is lost", text[:-1]),
        "order": ("two lines exchanged", b"".join(reversed(text.splitlines(keepends=True)))),
        "not-encrypted": ("not encrypted", text.replace(b"encrypted=True", b"encrypted=False")),
        "version-3": ("version 3", text.replace(b"version=4", b"version=3")),
    }
    for name, (comment, data) in texts.items():
        yield scene.vector(
            f"header-altered-{name}",
            f"backup-header differs from its copy: {comment}",
            replace(scene.members, HEADER, data),
            expect="unsupported" if name == "version-3" else "header altered",
        )


def _kinds(scenes: Scenes) -> Iterator[Vector]:
    """Headers whose backups are written accordingly."""
    text = b"version=4\nencrypted=True\ncompressed=%s\nhmac-algorithm=scrypt\nbackup-id=%s\n"
    named = text % (b"False\ncompression-filter=gzip", b"a-1")
    scene = scenes.one_qube("named", compression_filter=None, header=named, backup_id="a-1")
    scene.shorten_metadata()
    yield from _chosen_by_the_user(scenes)
    yield scene.vector(
        "header-filter-named-not-used",
        "backup-header: compressed=False decides, though a filter is named",
        scene.members,
    )
    ids = {
        "long": "i" * 1000,
        "short": "1",
        "hyphens": "---",
        "with-separator": "a!b",
        "with-slash": "../x",
        "not-ascii": "2024 \u00fc",
    }
    for name, backup_id in ids.items():
        scene = scenes.one_qube(f"id-{name}", backup_id=backup_id)
        yield scene.vector(f"header-id-{name}", f"backup-header: the id is {name}", scene.members)


def _chosen_by_the_user(scenes: Scenes) -> Iterator[Vector]:
    """Filters with paths and options, which the real program has run with."""
    filters = {
        "with-a-path": ("/usr/bin/pigz", "pigz"),
        "with-a-level": ("gzip -3", "gzip -3"),
        "with-zstd-options": ("zstd -T0 -5", "zstd -T0 -5"),
        "with-path-and-options": ("/usr/bin/xz --threads=2 -1", "xz --threads=2 -1"),
    }
    for name, (words, command) in filters.items():
        scene = scenes.one_qube(f"filter-{name}", compression_filter=words)
        yield scene.vector(
            f"header-filter-{name}",
            f"backup-header: the filter is '{words}', and files went through `{command}`",
            scene.members,
        )
    words = "/opt/odd filter; -x='1'"
    plain = f"version=4\nencrypted=True\ncompressed=False\ncompression-filter={words}\n"
    plain += "hmac-algorithm=scrypt\nbackup-id=a-1\n"
    scene = scenes.one_qube("odd", compression_filter=None, header=plain.encode(), backup_id="a-1")
    scene.shorten_metadata()
    yield scene.vector(
        "header-filter-odd-not-used",
        f"backup-header: compressed=False, and the filter named is {words}",
        scene.members,
    )
    scene = scenes.one_qube("forced", compression_filter="gzip")
    header = _with(scene.data(HEADER), b"compression-filter", b"gz\xff/\x1b[2Jzip -9")
    vector = scene.vector(
        "header-filter-forced",
        "backup-header: the filter named is nonsense, and the user forces the right one",
        scene.with_header(header),
    )
    yield replaced(vector, options=("--compression-filter", "gzip"))
    text = _with(scene.data(HEADER), b"compression-filter", b"")
    vector = scene.vector(
        "header-filter-empty-forced",
        "backup-header: the filter named is empty, and the user forces the right one",
        scene.with_header(text),
    )
    yield replaced(vector, options=("--compression-filter", "gzip"))


def _vector(
    scene: Scene, name: str, comment: str, text: bytes, *, expect: str = "header altered"
) -> Vector:
    backup = scene.with_header(text)
    return scene.vector(f"header-{name}", f"backup-header: {comment}", backup, expect=expect)
