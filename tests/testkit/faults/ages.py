"""One sound backup of each age of Qubes, as that age's writer ran its tools."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.maker import (
    RELEASE_CANDIDATE,
    BackupMaker,
    Format2Maker,
    Format3Maker,
    OldMaker,
    inner_tar,
    make_sparse,
    replace,
    scrypt_encrypt,
)
from tests.testkit.oldscenes import RULES, OldScene
from tests.testkit.scene import METADATA, PASSPHRASE, Members, Scene, noise
from tests.testkit.scenes import Scenes
from tests.testkit.vector import Vector

KIB = 1024
ICON = b"\x89PNG\r\n\x1a\n" + noise(50)
LETTER = b"Dear diary,\n"
#: What qubes.xml was bound to by R4.0.1-rc1, and its name inside.
RC1_NAME, RC1_FOLDER = "../../qubes.xml.000", "/"


def vectors(scenes: Scenes) -> Iterator[Vector]:
    """See the module's text."""
    folder = scenes.folder / "ages"
    for age, (comment, make) in _OLD.items():
        yield _old(folder / age, make).vector_of_age(age, comment)
    yield from _format_4(scenes)


class AgeScene(OldScene):
    """A sound backup of an older age."""

    def vector_of_age(self, age: str, comment: str) -> Vector:
        """Makes the vector of this age."""
        return self.vector(f"age-{age}", f"as {comment}", self.members)


def _old(folder: Path, make: Callable[[Path], OldMaker]) -> AgeScene:
    """A qube with what qubes of that time had, and dom0's home."""
    maker = make(folder / "maker")
    maker.passphrase = PASSPHRASE
    image = make_sparse(folder / "image", 256 * KIB, {0: noise(90), 128 * KIB: noise(12 * KIB)})
    files: Mapping[str, bytes | Path] = {
        "private.img": image,
        "icon.png": ICON,
        "firewall.xml": RULES,
    }
    maker.add_qube("work", qid=5, label="blue", files=files)
    home = folder / "user"
    (home / "Documents").mkdir(parents=True)
    (home / "Documents" / "letter").write_bytes(LETTER)
    maker.add_home("user", home)
    restored = {
        "work/private.img": image.read_bytes(),
        "work/icon.png": ICON,
        "work/firewall.xml": RULES,
        "dom0/user/Documents/letter": LETTER,
    }
    return AgeScene(maker, restored, format=3 if isinstance(maker, Format3Maker) else 2)


def _beta3(folder: Path) -> OldMaker:
    return Format2Maker(folder, zlib_around=True, tape_length=10, holes_by_reading=True)


def _candidate(folder: Path) -> OldMaker:
    return Format2Maker(folder, header=RELEASE_CANDIDATE, tape_length=10, holes_by_reading=True)


def _r2(folder: Path) -> OldMaker:
    return Format2Maker(
        folder,
        header=RELEASE_CANDIDATE,
        encrypted=False,
        compression_filter="gzip",
        digest="SHA512",
        tape_length=10,
        holes_by_reading=True,
    )


def _r2_1(folder: Path) -> OldMaker:
    return Format3Maker(folder, dereference=False, dom0=False, chunk_size=8 * KIB)


def _r3_0(folder: Path) -> OldMaker:
    return Format3Maker(folder, dereference=False, encrypted=False, chunk_size=8 * KIB)


def _r3_2(folder: Path) -> OldMaker:
    return Format3Maker(
        folder,
        compression_filter="bzip2",
        chunk_size=8 * KIB,
        empty_chunk_after=["vm5/firewall.xml", "dom0-home/user"],
    )


_OLD: dict[str, tuple[str, Callable[[Path], OldMaker]]] = {
    "r2-beta3": ("R2 Beta 3: format 2, no header, zlib around the cipher text, SHA1", _beta3),
    "r2-rc": ("a release candidate of R2: format 2, encrypted, SHA1", _candidate),
    "r2": ("R2: format 2, compressed by gzip, not encrypted, SHA512", _r2),
    "r2-1": ("R2.1: format 3, onto a named pipe; links are not followed", _r2_1),
    "r3-0": ("R3.0: format 3, not encrypted; links are not followed", _r3_0),
    "r3-2": ("R3.2: format 3, bzip2; empty chunks behind two files", _r3_2),
}


def _format_4(scenes: Scenes) -> Iterator[Vector]:
    early = _new(scenes, "r4-0", named_pipe=True, chunk_size=8 * KIB)
    yield early.vector(
        "age-r4-0", "as early R4.0: format 4, GNU tar onto a named pipe", early.members
    )
    first = _new(scenes, "r4-0-1-rc1", by_qubes=True)
    yield first.vector(
        "age-r4-0-1-rc1",
        "as R4.0.1-rc1: format 4, qubes.xml bound to another name",
        _bound_to_another_name(first),
        warnings=[METADATA],
    )
    last = _new(scenes, "r4-3", by_qubes=True, compression_filter="zstd")
    yield last.vector("age-r4-3", "as R4.3: format 4, images by Qubes' own writer", last.members)


def _new(scenes: Scenes, age: str, *, by_qubes: bool = False, **options: object) -> Scene:
    maker: BackupMaker = scenes.maker(f"age-{age}", **options)
    image = scenes.holed(256 * KIB, {0: noise(90), 128 * KIB: noise(12 * KIB)})
    files: Mapping[str, bytes | Path] = {"private.img": image, "firewall.xml": RULES}
    writer = ["private.img"] if by_qubes else []
    maker.add_qube("work", label="blue", files=files, qubes_writer=writer)
    home = scenes.folder / f"home-{age}" / "user"
    home.mkdir(parents=True)
    (home / "letter").write_bytes(LETTER)
    maker.add_home("user", home)
    restored = {"work/private.img": image.read_bytes(), "work/firewall.xml": RULES}
    return scenes.finished(maker, {**restored, "dom0/user/letter": LETTER})


def _bound_to_another_name(scene: Scene) -> Members:
    document = scene.member(METADATA, scene.files[METADATA]).path
    with inner_tar(document, RC1_FOLDER, compression_filter="gzip") as stream:
        archive = stream.read()
    sealed = document.with_name("sealed")
    scrypt_encrypt(archive, sealed, scene.maker.combined_passphrase(RC1_NAME))
    return replace(scene.members, f"{METADATA}.000.enc", sealed.read_bytes())
