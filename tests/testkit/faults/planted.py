"""Members that somebody has added with names of his choice, and true names that are hard to make.

Nothing proves a member's name but its content. So a name may not leave a folder behind, nor keep a
true file out, whichever stands first in the archive.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.maker import forged_archive, get, run, scrypt_encrypt
from tests.testkit.faults.chunks import by_path
from tests.testkit.oldscenes import OldScene
from tests.testkit.scene import METADATA, Backup, Scene, Sound, noise
from tests.testkit.scenes import WORK, Scenes
from tests.testkit.vector import Vector

JUNK = noise(300)
DEEP = "/".join("d" * 1100)


def vectors(scenes: Scenes) -> Iterator[Vector]:
    """See the module's text."""
    yield from _refused(scenes.plain)
    yield from _by_path(scenes.plain)
    for scene in (scenes.old.three, scenes.old.two):
        yield from _old(scene)
    yield from _long_names(scenes)
    yield from _closed(scenes)


def _both(scene: Sound, chunk: str, planted: bytes) -> Iterator[tuple[str, Backup]]:
    """The backup with something planted before a file's first chunk, and behind all."""
    true = scene.archive(get(scene.members, chunk))
    yield "first", scene.before(chunk) + planted + true + scene.after(chunk)
    yield "last", scene.assemble(scene.members) + planted


def _refused(scene: Scene) -> Iterator[Vector]:
    names = {
        "below-an-image": ("below an image, as if that were a folder", "private.img/x"),
        "in-a-folder": ("in a folder of the qube's folder", "a/b"),
        "deep": ("in 1,099 folders of the qube's folder", DEEP),
    }
    for name, (where, path) in names.items():
        planted = forged_archive(f"vm12/{path}.000.enc", JUNK)
        for place, backup in _both(scene, f"{WORK}.000.enc", planted):
            yield scene.vector(
                f"planted-{name}-{place}",
                f"outer archive: a member of nobody {where}; it stands there {place}",
                backup,
                expect="name refused",
                lost={f"work/{path}": "refused"},
            )


def _by_path(scene: Scene) -> Iterator[Vector]:
    """Without qubes.xml, where a slash may belong to the qube's folder."""
    metadata = [member for member in scene.members if member.name.startswith(METADATA)]
    rest = [member for member in scene.members if member not in metadata]
    planted = {"below-an-image": f"{WORK}/x", "of-no-qube": "vm77/a/private.img"}
    at = [member.name for member in rest].index(f"{WORK}.000.enc")
    for name, path in planted.items():
        backup = (
            scene.assemble(rest[:at])
            + forged_archive(f"{path}.000.enc", JUNK)
            + scene.assemble(rest[at:])
        )
        yield scene.vector(
            f"planted-{name}-by-path",
            f"outer archive: no qubes.xml, and a member of nobody ({name.replace('-', ' ')})",
            backup,
            expect="file missing",
            lost={METADATA: "missing", path: "damaged"},
            unseen=[*scene.files],
            files=by_path(scene),
        )


def _old(scene: OldScene) -> Iterator[Vector]:
    """A true chunk under another name: its HMAC does not cover the name."""
    true = scene.data("vm1/firewall.xml.000"), scene.data("vm1/firewall.xml.000.hmac")
    for name, path in {"below-an-image": "private.img/x", "deep": DEEP}.items():
        planted = forged_archive(f"vm1/{path}.000", true[0])
        planted += forged_archive(f"vm1/{path}.000.hmac", true[1])
        for place, backup in _both(scene, "vm1/private.img.000", planted):
            yield scene.vector(
                f"v{scene.format}-planted-{name}-{place}",
                f"format {scene.format}: another file's chunk, with its HMAC, under a name of"
                f" nobody ({name.replace('-', ' ')}); it stands there {place}",
                backup,
                expect="name refused",
                lost={f"work/{path}": "refused"},
            )


def _long_names(scenes: Scenes) -> Iterator[Vector]:
    """An extension of the writer may add files of any name; 247 bytes are its own limit."""
    comment = "a file of a qube has a name that leaves no room for a suffix ({})"
    maker = scenes.maker("name-of-247")
    name = "n" * 247
    maker.add_qube("work", files={"private.img": scenes.file(noise(80)), name: b"247"})
    scene = scenes.finished(maker, {"work/private.img": noise(80), f"work/{name}": b"247"})
    yield scene.vector("qube-name-of-247-bytes", comment.format("247 bytes"), scene.members)
    names = {
        "251-bytes": "n" * 251,
        "255-bytes": "n" * 255,
        "255-bytes-utf-8": "\u00fc" * 127 + "x",
    }
    for which, name in names.items():
        scene = scenes.one_qube(f"name-of-{which}")
        yield scene.vector(
            f"qube-name-of-{which}",
            comment.format(which.replace("-", " ")),
            scene.assemble(scene.members) + _sealed(scene, f"vm1/{name}", which.encode()),
            files={f"work/{name}": which.encode()},
        )


def _sealed(scene: Scene, path: str, data: bytes) -> bytes:
    """The member of a file in one chunk, under a name that no file of this machine can have."""
    tree = Path(tempfile.mkdtemp(dir=scene.maker.workdir))
    folder, _, name = path.rpartition("/")
    (tree / name).write_bytes(data)
    command = ["tar", "-Pc", "--sparse", "-f", "-", "-C", str(tree), f"--xform=s:^:{folder}/:"]
    out = tree / "chunk"
    secret = scene.maker.combined_passphrase(f"{path}.000")
    scrypt_encrypt(scene.compressed(run([*command, "--", name])), out, secret)
    return forged_archive(f"{path}.000.enc", out.read_bytes())


def _closed(scenes: Scenes) -> Iterator[Vector]:
    """Modes that keep out the owner; the real tar runs as root here."""
    maker = scenes.maker("closed")
    tree = scenes.folder / "closed-home" / "user"
    restored: dict[str, bytes] = {}
    for mode in (0o300, 0o000, 0o555, 0o600):
        folder = tree / f"folder-{mode:03o}"
        restored |= _filled(folder, tree)
        folder.chmod(mode)
    for mode in (0o200, 0o000):
        file = tree / f"file-{mode:03o}"
        file.write_bytes(file.name.encode())
        restored[file.name] = file.name.encode()
        file.chmod(mode)
    tree.chmod(0o300)
    maker.add_home("user", tree)
    scene = scenes.finished(maker, {f"dom0/user/{name}": data for name, data in restored.items()})
    yield scene.vector(
        "home-closed-to-its-owner",
        "dom0's home has files and folders whose mode keeps out their owner",
        scene.members,
    )


def _filled(folder: Path, tree: Path) -> dict[str, bytes]:
    """Makes a folder with a file, and one in a folder of mode 0500."""
    (folder / "sub").mkdir(parents=True)
    files = (folder / "file", folder / "sub/file")
    for file in files:
        file.write_bytes(str(file.relative_to(tree)).encode())
    (folder / "sub").chmod(0o500)
    return {str(file.relative_to(tree)): file.read_bytes() for file in files}
