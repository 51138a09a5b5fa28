"""Backups that somebody unpacked and packed again, by real tar, or wrote onto a device."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.maker.tools import run
from tests.support.tarbytes import BLOCK
from tests.testkit.scene import Sound
from tests.testkit.scenes import Scenes
from tests.testkit.vector import Vector

MIB = 1 << 20
FOLDER = "unpacked"


def vectors(scenes: Scenes) -> Iterator[Vector]:
    """See the module's text."""
    yield from _packed(scenes.plain)
    yield from _ends(scenes.plain)
    for scene, name in ((scenes.old.three, "v3"), (scenes.old.two, "v2")):
        packed = _tar(scene, *sorted(_names(scene), reverse=True), prefix=f"{FOLDER}/")
        comment = (
            f"{name}: packed again, names with a folder in front, the header last; read from a"
        )
        yield scene.vector(f"{name}-packed-again-file", f"{comment} file", packed, source="file")
        yield scene.vector(
            f"{name}-packed-again-pipe",
            f"{comment} pipe",
            packed,
            expect="not a backup",
            source="pipe",
        )


def _names(scene: Sound) -> list[str]:
    return [member.name for member in scene.members]


def _tar(scene: Sound, *names: str, prefix: str = "", options: tuple[str, ...] = ()) -> bytes:
    """One archive of files, as real tar makes it from the unpacked folder."""
    with tempfile.TemporaryDirectory() as above:
        folder = Path(above) / FOLDER
        for member in scene.members:
            path = folder / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(member.path, path)
        start = above if FOLDER in prefix else str(folder)
        plain = ("--owner=0", "--group=0", "--mtime=@0", "--mode=600")
        wanted = [prefix + name for name in names]
        return run(["tar", "-c", "-f", "-", "-C", start, *plain, *options, *wanted])


def _packed(scene: Sound) -> Iterator[Vector]:
    names = _names(scene)
    for name, prefix in {
        "dot": "./",
        "folder": f"{FOLDER}/",
        "deep-folder": f"./{FOLDER}/",
    }.items():
        yield scene.vector(
            f"packed-{name}",
            f"packed again, in the old order; names begin with {prefix}",
            _tar(scene, *names, prefix=prefix),
        )
    yield scene.vector(
        "packed-whole-folder",
        "packed again as a whole folder, so folders are members too",
        _tar(scene, ".", options=("--sort=name", "--mode=700")),
    )
    backwards = _tar(scene, *reversed(names))
    yield scene.vector(
        "packed-header-last-file",
        "packed again in reverse order, the header last; read from a file",
        backwards,
        source="file",
    )
    yield scene.vector(
        "packed-header-last-pipe",
        "packed again in reverse order, the header last; from a pipe nobody can wait for it",
        backwards,
        expect="not a backup",
        source="pipe",
    )


def _ends(scene: Sound) -> Iterator[Vector]:
    whole = _tar(scene, *_names(scene), options=("-b1",))
    yield scene.vector("packed-no-padding", "packed again by tar -b1: no padding", whole)
    yield scene.vector(
        "packed-one-zero-block",
        "packed again by a program that ends an archive in one zero block",
        whole[:-BLOCK],
    )
    yield scene.vector(
        "packed-no-end-mark",
        "packed again by a program that writes no end of an archive",
        whole[: -2 * BLOCK],
    )
    yield scene.vector(
        "packed-cut",
        "packed again without padding, and cut in the last block of the last member",
        whole[: -2 * BLOCK - 1],
        expect="archive damaged",
    )
    yield scene.vector(
        "packed-large-records",
        "packed again by tar -b 2048, which pads to a record of 1 MiB",
        _tar(scene, *_names(scene), options=("-b", "2048")),
    )
    yield scene.vector(
        "device-zeros-behind",
        "written onto a device: 3 MiB of zeros behind the backup's end",
        scene.assemble(scene.members) + bytes(3 * MIB),
    )
