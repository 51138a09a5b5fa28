"""dom0's home: an archive of a whole tree, under a right MAC, made by somebody hostile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from tests.support.tarbytes import (
    GNU,
    archive,
    gnu_long,
    header,
    octal,
    old_gnu_sparse,
    padded,
    pax,
)
from tests.testkit.scene import Members, Scene
from tests.testkit.scenes import HOME, Scenes
from tests.testkit.vector import Vector

ROOT = HOME.encode() + b"/"
OUT = "dom0/user"
GOOD = b"good\n"


def vectors(scenes: Scenes) -> Iterator[Vector]:
    """See the module's text."""
    scene = scenes.home
    yield scene.vector("home", "dom0's home: nothing is wrong with it", scene.members)
    yield from _refused(scene)
    yield from _damaged(scene)
    yield from _legal(scene)
    yield from _special(scene)
    dotted = scenes.home_of_a_user_with_a_dot
    yield dotted.vector(
        "home-link-of-a-user-with-a-dot",
        "dom0's home: its user is jo.doe, which was a pattern to the writer's tar; links to names"
        " that fit the pattern, and to others",
        dotted.members,
    )


def _file(path: bytes, data: bytes = GOOD, **options: object) -> bytes:
    return header(ROOT + path, size=len(data), **options) + padded(data)  # type: ignore[arg-type]


def _folder(path: bytes, **options: object) -> bytes:
    return header(ROOT + path, kind=b"5", mode=0o755, **options)  # type: ignore[arg-type]


def _link(path: bytes, target: bytes) -> bytes:
    return header(ROOT + path, kind=b"2", link=target)


def _tree(scene: Scene, *entries: bytes) -> Members:
    """The home with a good file in front and another behind."""
    tar = archive(_folder(b""), _file(b"first"), *entries, _file(b"last"))
    return scene.with_inner(HOME, tar)


def _files(more: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    named = {"first": GOOD, "last": GOOD, **(more or {})}
    return {f"{OUT}/{name}": data for name, data in named.items()}


def _vector(
    scene: Scene,
    name: str,
    comment: str,
    entries: bytes,
    *,
    refused: tuple[str, ...] = (),
    more: Mapping[str, bytes] | None = None,
    links: Mapping[str, str] | None = None,
    noted: tuple[str, ...] = (),
) -> Vector:
    return scene.vector(
        f"home-{name}",
        f"dom0's home: {comment}",
        _tree(scene, entries),
        expect="name refused" if refused else "success",
        lost={f"{OUT}/{path}": "refused" for path in refused},
        unseen=[OUT],
        files=_files(more),
        links={f"{OUT}/{path}": target for path, target in (links or {}).items()},
        warnings=noted,
    )


def _refused(scene: Scene) -> Iterator[Vector]:
    """One entry is not made; the rest of the home is whole."""
    outside = b"/qubes-testkit"
    yield _vector(
        scene,
        "type-unknown",
        "an entry is of type unknown",
        header(ROOT + b"x", kind=b"Z"),
        refused=("x",),
    )
    yield _vector(
        scene,
        "file-through-a-link",
        "a file below a symbolic link that leads outside",
        _link(b"x", outside) + _file(b"x/evil"),
        refused=("x/evil",),
        links={"x": outside.decode()},
    )
    yield _vector(
        scene,
        "folder-through-a-link",
        "a folder below a symbolic link that leads upwards",
        _link(b"x", b"..") + _folder(b"x/evil/"),
        refused=("x/evil",),
        links={"x": ".."},
    )
    yield _vector(
        scene,
        "file-over-a-link",
        "a file of the same name as a symbolic link that leads outside",
        _link(b"x", outside) + _file(b"x"),
        refused=("x",),
        links={"x": outside.decode()},
    )
    yield _vector(
        scene,
        "link-over-a-file",
        "a symbolic link of the same name as a file",
        _file(b"x") + _link(b"x", outside),
        refused=("x",),
        more={"x": GOOD},
    )
    yield _vector(
        scene,
        "link-over-a-folder",
        "a symbolic link of the same name as a folder with a file in it",
        _folder(b"x/") + _file(b"x/y") + _link(b"x", outside),
        refused=("x",),
        more={"x/y": GOOD},
    )
    yield _vector(
        scene,
        "file-twice",
        "a file stands there twice; the first counts",
        _file(b"x") + _file(b"x", b"second\n"),
        refused=("x",),
        more={"x": GOOD},
    )
    yield _vector(
        scene,
        "file-below-a-file",
        "a file below a file",
        _file(b"x") + _file(b"x/y"),
        refused=("x/y",),
        more={"x": GOOD},
    )
    links = {
        "nothing": ("to a file that is not there", ROOT + b"none"),
        "a-folder": ("to a folder", ROOT + b"f"),
    }
    for name, (comment, target) in links.items():
        yield _vector(
            scene,
            f"hard-link-to-{name}",
            f"a hard link {comment}",
            _folder(b"f/") + header(ROOT + b"x", kind=b"1", link=target),
            refused=("x",),
        )
    yield _vector(
        scene,
        "hard-link-through-a-link",
        "a hard link to a file below a symbolic link that leads outside",
        _link(b"l", b"/etc") + header(ROOT + b"x", kind=b"1", link=ROOT + b"l/passwd"),
        refused=("x",),
        links={"l": "/etc"},
    )
    yield _vector(
        scene, "link-empty", "a symbolic link to nothing at all", _link(b"x", b""), refused=("x",)
    )


def _special(scene: Scene) -> Iterator[Vector]:
    """Devices and pipes hold no data and are never made: mentioned, and nothing is lost."""
    kinds = {"character-device": b"3", "block-device": b"4", "pipe": b"6"}
    for name, kind in kinds.items():
        yield _vector(
            scene,
            f"type-{name}",
            f"an entry is of type {name.replace('-', ' ')}",
            header(ROOT + b"special", kind=kind),
            noted=("special",),
        )
    yield _vector(
        scene,
        "hard-link-to-a-pipe",
        "a hard link to a pipe",
        header(ROOT + b"special", kind=b"6")
        + header(ROOT + b"second", kind=b"1", link=ROOT + b"special"),
        noted=("special", "second"),
    )


def _damaged(scene: Scene) -> Iterator[Vector]:
    """The home can't be believed as a whole."""
    names = {
        "name-upward": ("leads upwards", ROOT + b"../../evil"),
        "name-absolute": ("is an absolute path", b"/qubes-testkit/evil"),
        "name-of-another-home": ("is in another home", b"dom0-home/user2/evil"),
        "name-of-a-qube": ("is in a qube's folder", b"vm1/private.img"),
        "name-dot-inside": ("has a component .", ROOT + b"a/./b"),
        "name-double-slash": ("has an empty component", ROOT + b"a//b"),
        "name-empty": ("is empty", b""),
    }
    for name, (comment, path) in names.items():
        yield _lost(scene, name, f"an entry's name {comment}", header(path, size=0))
    yield _lost(
        scene,
        "name-too-long",
        "an entry's name has a component of 256 bytes",
        pax({b"path": ROOT + b"n" * 256}) + header(b"x"),
    )
    hard = {
        "upward": ("leads upwards", ROOT + b"../../evil"),
        "absolute": ("is an absolute path", b"/etc/passwd"),
    }
    for name, (comment, target) in hard.items():
        yield _lost(
            scene,
            f"hard-link-{name}",
            f"a hard link's target {comment}",
            header(ROOT + b"x", kind=b"1", link=target),
        )
    yield _lost(
        scene,
        "sparse-past-the-end",
        "a sparse file's map leads past its end",
        old_gnu_sparse([(4096, 512)], 4096, ROOT + b"x") + bytes(512),
    )
    yield _lost(scene, "file-itself", "the home itself is a file", header(ROOT[:-1], size=0))
    flipped = bytearray(_file(b"x"))
    flipped[0] ^= 1
    yield _lost(scene, "checksum", "an entry's checksum does not fit", bytes(flipped))
    yield _lost(
        scene,
        "size-negative",
        "an entry's size is negative",
        _file(b"x", fields={124: octal(-1, 12)}),
    )
    yield _lost(
        scene,
        "mode-not-octal",
        "an entry's mode is no number",
        _file(b"x", fields={100: b"rwxrwxrw"}),
    )
    deep = b"d/" * 256
    yield _lost(
        scene, "too-deep", "257 folders in each other", _long(deep + b"x", _file), expect="limit"
    )
    long = pax({b"linkpath": b"t" * 4097}) + _link(b"x", b"")
    yield _lost(
        scene, "link-too-long", "a symbolic link's target has 4097 bytes", long, expect="limit"
    )
    yield _lost(
        scene,
        "file-8-eib",
        "a sparse file has 8 EiB",
        old_gnu_sparse([((1 << 63) - 1, 0)], (1 << 63) - 1, ROOT + b"x"),
        expect="limit",
    )
    cut = archive(_folder(b""), _file(b"first"))[: 512 * 3]
    yield scene.vector(
        "home-cut",
        "dom0's home: its archive has no end",
        scene.with_inner(HOME, cut),
        expect="file damaged",
        lost={OUT: "damaged"},
    )


def _lost(
    scene: Scene, name: str, comment: str, entries: bytes, *, expect: str = "file damaged"
) -> Vector:
    return scene.vector(
        f"home-{name}",
        f"dom0's home: {comment}",
        _tree(scene, entries),
        expect=expect,
        lost={OUT: "damaged"},
    )


def _long(path: bytes, make: Callable[[bytes], bytes]) -> bytes:
    return pax({b"path": ROOT + path}) + make(b"x")


def _legal(scene: Scene) -> Iterator[Vector]:
    sparse = old_gnu_sparse([(4096, 5)], 8192, ROOT + b"x") + padded(GOOD)
    holed = bytes(4096) + GOOD + bytes(4091)
    second = header(ROOT + b"y", kind=b"1", link=ROOT + b"x")
    deepest = "d/" * 255 + "x"
    long = b"n" * 255
    controls = b"a\x1b[31m\r\nb"
    entries: dict[str, tuple[str, bytes, dict[str, bytes]]] = {
        "setuid": ("a file with setuid, which is dropped", _file(b"x", mode=0o6755), {"x": GOOD}),
        "sparse": ("a sparse file", sparse, {"x": holed}),
        "empty-file": ("a file of no length", _file(b"x", b""), {"x": b""}),
        "hard-link": ("a hard link", _file(b"x") + second, {"x": GOOD, "y": GOOD}),
        "no-folders": ("a file in folders that are no entries", _file(b"a/b/c"), {"a/b/c": GOOD}),
        "read-only-folder": (
            "a file in a folder that nobody may write to",
            header(ROOT + b"f/", kind=b"5", mode=0o555) + _file(b"f/x"),
            {"f/x": GOOD},
        ),
        "folder-twice": (
            "a folder stands there twice",
            _folder(b"f/") + _file(b"f/x") + _folder(b"f/"),
            {"f/x": GOOD},
        ),
        "case-clash": (
            "names that differ in case alone",
            _file(b"x") + _file(b"X"),
            {"x": GOOD, "X": GOOD},
        ),
        "controls": ("a name with control characters", _file(controls), {controls.decode(): GOOD}),
        "not-utf-8": (
            "a name that is not UTF-8",
            _file(b"caf\xe9"),
            {b"caf\xe9".decode("utf-8", "surrogateescape"): GOOD},
        ),
        "part": ("a name that unfinished files have", _file(b"x.part"), {"x.part": GOOD}),
        "longest-name": ("a name of 255 bytes", _long(long, _file), {long.decode(): GOOD}),
        "gnu-long-name": (
            "a GNU long name",
            gnu_long(ROOT + long) + _file(b"x"),
            {long.decode(): GOOD},
        ),
        "deepest": ("255 folders in each other", _long(deepest.encode(), _file), {deepest: GOOD}),
        "time-negative": (
            "a time before 1970",
            _file(b"x", fields={136: octal(-86_400, 12)}),
            {"x": GOOD},
        ),
        "time-most": (
            "the largest time",
            _file(b"x", fields={136: b"\x80" + b"\xff" * 11}),
            {"x": GOOD},
        ),
        "gnu-magic": ("GNU tar's magic", _file(b"x", magic=GNU), {"x": GOOD}),
    }
    for name, (comment, data, more) in entries.items():
        yield _vector(scene, name, comment, data, more=more)
    links = {
        "absolute": ("absolute", b"/etc/passwd", "/etc/passwd"),
        "upward": ("leads upwards", b"../../x", "../../x"),
        "dangling": ("leads nowhere", b"none", "none"),
        "to-itself": ("is itself", b"x", "x"),
        "rewritten": (
            "began with the user's name, which the writer rewrote",
            HOME.encode() + b"/first",
            "user/first",
        ),
    }
    for name, (comment, target, meant) in links.items():
        yield _vector(
            scene,
            f"link-{name}",
            f"a symbolic link's target {comment}",
            _link(b"x", target),
            links={"x": meant},
        )
