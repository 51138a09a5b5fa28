"""Format 2: volumes that cut what stands in front of a member's data, maps of holes above all."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.tarbytes import sealed
from tests.testkit.faults.old import damaged
from tests.testkit.oldscenes import OldScene
from tests.testkit.scenes import Scenes
from tests.testkit.vector import Vector

IMAGE = "appvms/work/private.img"
#: Runs of data → where the map's end falls, and which cuts tar marks.
SHAPES = {
    402: ("to-the-end-of-a-volume", "ends with a volume; each cut has a mark"),
    821: ("no-mark", "fills tar's buffer; a mark stands within the map and none behind it"),
    1241: (
        "late-mark",
        "fills tar's buffer twice; a mark stands within the map and none behind it",
    ),
    1243: ("in-four-volumes", "goes on in two volumes without a mark; each cut behind it has one"),
}


def vectors(scenes: Scenes) -> Iterator[Vector]:
    """See the module's text."""
    for runs, (name, comment) in SHAPES.items():
        scene = scenes.old.combed(runs)
        yield scene.vector(
            f"v2-map-{name}", f"format 2: a map of holes that {comment}", scene.members
        )
        if name == "no-mark":
            yield from _without_marks(scene)
    scene = scenes.old.combed(823)
    yield scene.vector(
        "v2-map-in-three-volumes",
        "format 2: a map of holes goes on in a volume without a mark; each cut behind it has one",
        scene.members,
    )
    yield from _cut_map(scene)
    names = scenes.old.long_names()
    yield names.vector(
        "v2-name-cut", "format 2: volumes that begin with a long name's block", names.members
    )


def _cut_map(scene: OldScene) -> Iterator[Vector]:
    """The second volume is nothing but map, the third begins with a mark and the map's end."""
    names = scene.chunks(IMAGE)
    second, third, fourth, fifth = (scene.data(name) for name in names[1:5])
    assert second[257:262] != b"ustar" and third[156:157] == fourth[156:157] == b"M"
    other = sealed(b"appvms/work/root.img".ljust(100, b"\0") + third[100:512])
    cases = {
        "twice": (1, "the map's part is the one behind it", third),
        "zeros": (1, "the map's part is nothing but zeros", bytes(len(second))),
        "cut": (1, "the map's part is cut by a block", second[:-512]),
        "empty": (1, "the map's part is empty", b""),
        "a-block-more": (1, "the map's part has a block more", second[:512] + second),
        "noise": (1, "the map's part is something else", scene.data(names[0])[:512] * 20),
        "data": (1, "the map's part is a part of the data", fourth),
        "mark-of-another": (2, "the mark within the map names another file", other + third[512:]),
        "mark-missing": (4, "a later cut has no mark, though others have", fifth[512:]),
    }
    for name, (index, comment, changed) in cases.items():
        yield damaged(
            scene,
            f"v2-map-{name}",
            f"a map of holes in three volumes, under right HMACs: {comment}",
            scene.proven(names[index], changed),
        )
    yield damaged(
        scene,
        "v2-map-exchanged",
        "a map of holes in three volumes: two of them exchanged, with their HMACs",
        scene.exchanged(names[1], names[2]),
    )


def _without_marks(scene: OldScene) -> Iterator[Vector]:
    names = scene.chunks(IMAGE)
    mark = scene.data(names[1])[:512]
    assert mark[156:157] == b"M" and scene.data(names[2])[156:157] != b"M"
    yield damaged(
        scene,
        "v2-map-a-mark-too-many",
        "behind a map of holes no cut has a mark but one, under a right HMAC",
        scene.proven(names[4], mark + scene.data(names[4])),
    )
    yield damaged(
        scene,
        "v2-map-no-mark-and-a-block-less",
        "behind a map of holes no cut has a mark, and a volume is a block shorter",
        scene.proven(names[4], scene.data(names[4])[512:]),
    )
