"""Members added, twice, or in another order, and archives put together in other ways."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence

from tests.maker import Member, drop, flip_byte, forged_archive, get
from tests.support.tarbytes import RECORD, ZEROS
from tests.testkit.faults.chunks import by_path
from tests.testkit.faults.outer import BEHIND, BROKEN, CHUNK, DAMAGED
from tests.testkit.scene import HEADER, HEADER_COPY, METADATA, Scene
from tests.testkit.scenes import FIREWALL, MAIL, WORK, Scenes
from tests.testkit.vector import Vector

FIRST = f"{WORK}.000.enc"
LAST = f"{MAIL}.000.enc"
MIB = 1 << 20


def vectors(scenes: Scenes) -> Iterator[Vector]:
    """See the module's text."""
    scene = scenes.plain
    yield scene.vector("plain", "three qubes: nothing is wrong with them", scene.members)
    yield from _put_together(scene)
    yield from _added(scene)
    yield from _twice(scene, scenes.other)
    yield from _disordered(scene)


def _tar(members: Sequence[Member], form: int) -> bytes:
    """One archive of all members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for member in members:
            archive.add(member.path, member.name, recursive=False)
    return out.getvalue()


def _put_together(scene: Scene) -> Iterator[Vector]:
    members = scene.members
    ways = {"pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT, "ustar": tarfile.USTAR_FORMAT}
    for name, form in ways.items():
        yield scene.vector(
            f"order-one-archive-{name}",
            f"outer archive: all members in one {name} archive, as a tool that copied it might do",
            _tar(members, form),
        )
    archives = [scene.archive(member) for member in members]
    yield scene.vector(
        "order-zeros-between",
        "outer archive: 1 MiB of zeros less a record between two archives",
        b"".join([*archives[:5], bytes(MIB - 2 * RECORD), *archives[5:]]),
        expect="archive damaged",
    )
    yield scene.vector(
        "order-record-of-zeros-between",
        "outer archive: a record of zeros between two archives, where one may have been",
        b"".join([*archives[:5], bytes(RECORD), *archives[5:]]),
        expect="archive damaged",
    )
    yield scene.vector(
        "order-zeros-behind",
        "outer archive: a record of zeros more at its end",
        b"".join([*archives, bytes(RECORD)]),
    )
    yield scene.vector(
        "order-too-many-zeros",
        "outer archive: 2 MiB of zeros where the second chunk of an image should follow",
        scene.before(CHUNK) + bytes(2 * MIB) + scene.archive(get(members, CHUNK)),
        expect="archive damaged",
        lost=BROKEN,
        unseen=BEHIND,
    )
    for name, more in {
        "garbage": b"\xa5" * RECORD,
        "one-byte": b"\x01",
        "half-header": b"vm2/",
    }.items():
        yield scene.vector(
            f"order-{name}-behind",
            f"outer archive: {name.replace('-', ' ')} behind its end",
            b"".join(archives) + more,
            expect="archive damaged",
        )
    one_zero_block = _tar(members, tarfile.USTAR_FORMAT).rstrip(b"\0")
    one_zero_block += bytes(-len(one_zero_block) % 512) + ZEROS
    yield scene.vector(
        "order-one-zero-block",
        "outer archive: all members in one archive that ends in one zero block, as some tools do",
        one_zero_block,
    )


def _added(scene: Scene) -> Iterator[Vector]:
    forged = {
        "unknown-file": forged_archive("README", b"read me"),
        "folder": forged_archive("vm12", typeflag=tarfile.DIRTYPE),
        "link": forged_archive("vm12", typeflag=tarfile.SYMTYPE, link="/qubes-testkit"),
        "device": forged_archive("vm12/sda", typeflag=tarfile.BLKTYPE),
        "absolute-name": forged_archive("/qubes-testkit/private.img.000.enc", b"x"),
        "upward-name": forged_archive("../../evil.000.enc", b"x"),
        "control-name": forged_archive("\x1b]0;evil\x07\n.000.enc", b"x"),
        "plain-chunk": forged_archive("vm12/private.img.000", b"not encrypted"),
        "other-digits": forged_archive("vm12/private.img.\u0661\u0662\u0663.enc", b"x"),
        "unknown-qube": forged_archive("vm99/private.img.000.enc", b"x" * 200),
        "prefix-of-a-qube": forged_archive("vm/private.img.000.enc", b"x" * 200),
        "file-outside-of-qubes": forged_archive("private.img.000.enc", b"x" * 200),
    }
    for name, archive in forged.items():
        yield scene.vector(
            f"added-{name}",
            f"outer archive: a member that is no part of the backup ({name.replace('-', ' ')})",
            scene.before(FIRST)
            + archive
            + scene.archive(get(scene.members, FIRST))
            + scene.after(FIRST),
            # a folder is a member of every archive that was made of one
            warnings=[] if name == "folder" else [_name_of(archive)],
        )


def _name_of(archive: bytes) -> str:
    """The name that a warning must hold: a chunk's file without its number, else all of it."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        name = opened.getnames()[0]
    for known in ("vm99/private.img", "vm/private.img", "private.img.000"):
        if name.startswith(known):
            return known.removesuffix(".000")
    return name


def _twice(scene: Scene, other: Scene) -> Iterator[Vector]:
    """Qubes' own restorer takes the first of a name."""
    good = get(scene.members, CHUNK)
    bad = get(flip_byte(scene.members, CHUNK, 120), CHUNK)
    name = CHUNK.removesuffix(".enc")
    yield scene.vector(
        "twice-chunk",
        "outer archive: a chunk stands there twice, the same",
        scene.inserted(CHUNK, good),
        warnings=[name],
    )
    yield scene.vector(
        "twice-chunk-second-damaged",
        "outer archive: a chunk stands there twice, the second one damaged",
        scene.inserted(CHUNK, bad),
        warnings=[name],
    )
    yield scene.vector(
        "twice-chunk-first-damaged",
        "outer archive: a chunk stands there twice, the first one damaged; the first counts",
        scene.inserted(FIRST, bad),
        expect="file damaged",
        lost=DAMAGED,
    )
    yield scene.vector(
        "twice-chunk-at-the-end",
        "outer archive: a chunk stands at the end once more, damaged",
        [*scene.members, bad],
        warnings=[name],
    )
    for which in (HEADER, HEADER_COPY):
        yield scene.vector(
            f"twice-{which.replace('.', '-')}",
            f"outer archive: another backup's {which} stands at the end",
            [*scene.members, get(other.members, which)],
            warnings=[which],
        )
    yield scene.vector(
        "twice-qubes-xml",
        "outer archive: another backup's qubes.xml stands at the end",
        [*scene.members, *(get(other.members, m) for m in other.chunks("qubes.xml"))],
        warnings=["qubes.xml.000"],
    )
    yield scene.vector(
        "twice-backup",
        "outer archive: another whole backup of the same qubes stands behind it",
        scene.assemble(scene.members) + other.assemble(other.members),
        warnings=[HEADER, WORK],
    )


def _disordered(scene: Scene) -> Iterator[Vector]:
    """From a file, chunks are put in order by number. On a pipe what came too late is lost."""
    moved = get(scene.members, CHUNK)
    rest = drop(scene.members, CHUNK)
    late = [*rest, moved]
    yield scene.vector(
        "order-chunk-late-file",
        "outer archive: an image's second chunk stands at the end; read from a file",
        late,
        source="file",
    )
    yield scene.vector(
        "order-chunk-late-pipe",
        "outer archive: an image's second chunk stands at the end; read from a pipe",
        late,
        expect="archive damaged",
        lost=DAMAGED,
        source="pipe",
    )
    chunks = [get(scene.members, name) for name in scene.chunks(WORK)]
    others = [m for m in scene.members[:-1] if m not in chunks]
    backwards = [*others, *reversed(chunks), scene.members[-1]]
    yield scene.vector(
        "order-chunks-backwards-file",
        "outer archive: an image's chunks stand there in reverse order; read from a file",
        backwards,
        source="file",
    )
    yield scene.vector(
        "order-chunks-backwards-pipe",
        "outer archive: an image's chunks stand there in reverse order; read from a pipe",
        backwards,
        expect="archive damaged",
        lost=DAMAGED,
        source="pipe",
    )
    files = [*scene.members[:4], *reversed(scene.members[4:])]
    whole_files = [m for m in files if m not in chunks]
    yield scene.vector(
        "order-files-backwards",
        "outer archive: files stand there in reverse order, each whole",
        [*whole_files, *chunks],
    )
    mixed = drop(scene.members, f"{FIREWALL}.000.enc")
    index = [m.name for m in mixed].index(CHUNK)
    between = [*mixed[:index], get(scene.members, f"{FIREWALL}.000.enc"), *mixed[index:]]
    yield scene.vector(
        "order-file-between-chunks-file",
        "outer archive: another file stands between an image's chunks; read from a file",
        between,
        source="file",
    )
    yield scene.vector(
        "order-file-between-chunks-pipe",
        "outer archive: another file stands between an image's chunks; read from a pipe",
        between,
        expect="archive damaged",
        lost=DAMAGED,
        source="pipe",
    )
    copy = get(scene.members, HEADER_COPY)
    without = drop(scene.members, HEADER_COPY)
    yield scene.vector(
        "order-header-copy-last-file",
        "outer archive: the header's copy stands at the end; read from a file",
        [*without, copy],
        source="file",
    )
    yield scene.vector(
        "order-header-copy-last-pipe",
        "outer archive: the header's copy stands at the end; read from a pipe",
        [*without, copy],
        expect="header altered",
        source="pipe",
    )
    metadata = [get(scene.members, name) for name in scene.chunks("qubes.xml")]
    behind = [m for m in scene.members if m not in metadata] + metadata
    yield scene.vector(
        "order-qubes-xml-last-file",
        "outer archive: qubes.xml stands at the end; read from a file",
        behind,
        source="file",
    )
    yield scene.vector(
        "order-qubes-xml-last-pipe",
        "outer archive: qubes.xml stands at the end; read from a pipe",
        behind,
        expect="file missing",
        lost={METADATA: "missing"},
        unseen=[*scene.files],
        files=by_path(scene),
        source="pipe",
    )
