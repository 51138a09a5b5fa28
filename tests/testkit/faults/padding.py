"""Zeros behind a compressed stream: tar's padding on a named pipe, and what is damage."""

from __future__ import annotations

from collections.abc import Iterator

from tests.maker import FILTERS, run
from tests.testkit.faults.old import damaged
from tests.testkit.oldscenes import WORK, OldScene
from tests.testkit.scene import Members, Scene
from tests.testkit.scenes import Scenes
from tests.testkit.vector import Vector

RECORD = 10_240  # GNU tar's
IMAGE = "vm1/private.img"
LOST = {"work/private.img": "damaged"}


def vectors(scenes: Scenes) -> Iterator[Vector]:
    """See the module's text."""
    for name in FILTERS:
        early = scenes.one_qube(f"padding-{name}", compression_filter=name, named_pipe=True)
        yield early.vector(
            f"padding-by-tar-{name}", f"early R4.0: tar's zeros behind {name}", early.members
        )
    for name in ("gzip", "bzip2", "xz", "lzma", "zstd"):
        yield from _format_4(scenes.one_qube(f"zeros-{name}", compression_filter=name), name)
    yield from _format_3(scenes.old.three)


def _format_4(scene: Scene, name: str) -> Iterator[Vector]:
    stream = scene.stream(IMAGE)
    record, rest = bytes(RECORD), bytes(-len(stream) % RECORD)
    good = {
        "longest": ("by a byte less than a record of zeros", [stream + record[:-1]]),
        "chunk-of-its-own": ("by zeros in a chunk of their own", [stream, rest]),
        "cut": ("by zeros that chunks cut", [stream + rest[:1], rest[1:90], b"", rest[90:], b""]),
    }
    for case, (comment, chunks) in good.items():
        yield scene.vector(
            f"padding-{name}-{case}",
            f"the {name} stream is followed {comment}",
            scene.with_stream(IMAGE, *chunks),
        )
    for case, (comment, data) in _bad(stream, rest).items():
        yield scene.vector(
            f"padding-{name}-{case}",
            f"the {name} stream, under a right MAC, {comment}",
            scene.with_stream(IMAGE, data),
            expect="file damaged",
            lost=LOST,
        )
    if name == "lzma":  # whose programs know one stream only
        return
    tar = run([name, "-dc"], stdin=stream)
    halves = scene.compressed(tar[:512]), scene.compressed(tar[512:])
    yield scene.vector(
        f"padding-{name}-between-two",
        f"two {name} streams, under a right MAC, with zeros between them",
        scene.with_stream(IMAGE, halves[0] + bytes(16) + halves[1]),
        expect="file damaged",
        lost=LOST,
    )


def _bad(stream: bytes, rest: bytes) -> dict[str, tuple[str, bytes]]:
    return {
        "a-record": ("is followed by a whole record of zeros", stream + bytes(RECORD)),
        "many": ("is followed by 40,000 zeros", stream + bytes(40_000)),
        "one-in-it": ("is followed by zeros and a one in them", stream + rest[:99] + b"\1" + rest),
        "one-at-its-end": ("is followed by zeros and a one", stream + rest[:-1] + b"\1"),
        "stream-behind": ("is followed by zeros and itself again", stream + rest + stream),
        "cut-before": ("lacks its end, and zeros are there instead", stream[:-12] + bytes(12)),
    }


def _format_3(scene: OldScene) -> Iterator[Vector]:
    tar = run(["gzip", "-dc"], stdin=scene.decrypted(scene.stored(WORK)))
    stream = run(["gzip", "-c"], stdin=tar)
    rest = bytes(-len(stream) % RECORD)
    good = {
        "none": ("by nothing: the backup was packed again", stream),
        "short": ("by some zeros less than there were", stream + rest[:77]),
        "longest": ("by a byte less than a record of zeros", stream + bytes(RECORD - 1)),
    }
    for case, (comment, data) in good.items():
        yield scene.vector(
            f"v3-padding-{case}",
            f"format 3: the compressed stream is followed {comment}",
            _stored(scene, data),
        )
    for case, (comment, data) in _bad(stream, rest).items():
        yield damaged(
            scene,
            f"v3-padding-{case}",
            f"the compressed stream, under right HMACs, {comment}",
            _stored(scene, data),
        )


def _stored(scene: OldScene, stream: bytes) -> Members:
    return scene.with_stored(WORK, scene.encrypted(stream))
