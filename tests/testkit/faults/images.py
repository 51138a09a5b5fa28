"""Images as the writers make them: sound ones, of every kind that there is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.testkit.scene import noise
from tests.testkit.scenes import Scenes
from tests.testkit.vector import Vector


def vectors(scenes: Scenes) -> Iterator[Vector]:
    """See the module's text."""
    block = noise(512)
    mib = 1 << 20
    images = {
        "empty": ("is of no length", 0, {}),
        "one-byte": ("has one byte", 1, {0: b"x"}),
        "zeros": ("is one hole", mib, {}),
        "no-hole": ("has no hole", 2048, {0: noise(2048)}),
        "odd-length": ("has a length that is no multiple of anything", 4999, {4096: b"\x01" * 903}),
        "hole-first": ("begins with a hole", 65_536, {65_536 - 512: block}),
        "hole-last": ("ends with a hole", 65_536, {0: block}),
        "four-extents": ("has as many extents as an old-GNU header holds", mib, _extents(4)),
        "five-extents": ("has one more than an old-GNU header holds", mib, _extents(5)),
        "many-extents": ("has more extents than a header and a block hold", mib, _extents(30)),
    }
    for name, (comment, size, data) in images.items():
        for writer in ("gnu", "qubes") if name in _BOTH else ("gnu",):
            path = scenes.holed(size, data)
            yield _image(scenes, f"image-{name}-by-{writer}", comment, path, writer)
    yield from _qubes(scenes)


#: Images that Qubes' own writer stores in another way than GNU tar does.
_BOTH = ("empty", "zeros", "no-hole", "odd-length", "hole-last", "many-extents")


def _extents(count: int) -> dict[int, bytes]:
    return {n * 32_768: b"%4d" % n * 1024 for n in range(count)}


def _image(scenes: Scenes, name: str, comment: str, path: Path, writer: str) -> Vector:
    maker = scenes.maker(name, chunk_size=4096)
    own = ["private.img"] if writer == "qubes" else []
    maker.add_qube("work", files={"private.img": path}, qubes_writer=own)
    scene = scenes.finished(maker, {"work/private.img": path.read_bytes()})
    by = "Qubes' own writer" if own else "GNU tar"
    return scene.vector(name, f"an image {comment}; by {by}", scene.members)


def _qubes(scenes: Scenes) -> Iterator[Vector]:
    maker = scenes.maker("dispvm")
    maker.add_qube("disp1", klass="DispVM", volumes={}, files={"empty": b""})
    scene = scenes.finished(maker, {"disp1/empty": b""})
    yield scene.vector("qube-empty", "a qube has nothing but a file of no length", scene.members)
    maker = scenes.maker("template", chunk_size=4096)
    root, private = scenes.holed(8192, {0: noise(100)}), scenes.holed(4096, {})
    files = {"root.img": root, "private.img": private}
    maker.add_qube(
        "fedora-40",
        klass="TemplateVM",
        template=None,
        volumes={"root": True, "private": True},
        files=files,
    )
    restored = {f"fedora-40/{name}": path.read_bytes() for name, path in files.items()}
    scene = scenes.finished(maker, restored)
    yield scene.vector("qube-template", "a template has two images", scene.members)
