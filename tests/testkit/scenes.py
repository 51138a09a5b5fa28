"""The sound backups that vectors begin with; each is made once, when it is asked for."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from tests.maker import BackupMaker, make_sparse
from tests.testkit.oldscenes import OldScenes
from tests.testkit.scene import METADATA, PASSPHRASE, Scene, noise

#: The same for the whole backup, so that vectors don't depend on the disk they are made on.
_SIZE_ESTIMATE = 1 << 20

# The plain scene's files: by their path in the archive, and where a restore puts them.
VAULT = "vm1/private.img"  # one chunk, by Qubes' own writer
WORK = "vm12/private.img"  # three chunks, by GNU tar; vm1 is the beginning of its folder's name
FIREWALL = "vm12/firewall.xml"  # one chunk, optional
MAIL = "vm2/private.img"  # one chunk
HOME = "dom0-home/user"


class Scenes:
    """Args: folder: for everything that is made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def folder(self) -> Path:
        """For everything that is made."""
        return self._folder

    @cached_property
    def plain(self) -> Scene:
        """gzip; three qubes; three chunks of one image, two of qubes.xml."""
        return self._three_qubes("plain", "20240917T101112-1234", "gzip")

    @cached_property
    def other(self) -> Scene:
        """Another backup of the same qubes, with the same passphrase."""
        return self._three_qubes("other", "20250102T030405-9876", "gzip")

    @cached_property
    def small(self) -> Scene:
        """gzip; two qubes with one image each, in one chunk each."""
        maker = self.maker("small")
        vault, mail = self.holed(8192, {4096: noise(64)}), self.file(noise(80))
        files = {"private.img": vault}
        maker.add_qube("vault", label="black", netvm="", files=files, qubes_writer=files)
        maker.add_qube("mail", klass="StandaloneVM", files={"private.img": mail})
        restored = {"vault/private.img": vault, "mail/private.img": mail}
        return self.finished(maker, {name: path.read_bytes() for name, path in restored.items()})

    @cached_property
    def raw(self) -> Scene:
        """No compression; one image in three chunks."""
        maker = self.maker("raw", compression_filter=None)
        image = noise(300)
        path = self._folder / "raw-image"
        path.write_bytes(image)
        maker.add_qube("work", files={"private.img": path}, qubes_writer=["private.img"])
        scene = self.finished(maker, {"work/private.img": image})
        scene.shorten_metadata()
        scene.rechunk(VAULT, 3)
        return scene

    @cached_property
    def home(self) -> Scene:
        """gzip; dom0's home and nothing else."""
        maker = self.maker("home")
        tree = self._folder / "home" / "user"
        (tree / "Documents").mkdir(parents=True)
        files = {"Documents/letter": b"Dear diary,\n", "notes": b"Nothing to see here.\n"}
        for name, data in files.items():
            (tree / name).write_bytes(data)
        (tree / "link").symlink_to("Documents/letter")
        maker.add_home("user", tree)
        restored = {f"dom0/user/{name}": data for name, data in files.items()}
        return self.finished(maker, restored, {"dom0/user/link": "Documents/letter"})

    @cached_property
    def home_of_a_user_with_a_dot(self) -> Scene:
        """gzip; links that tar's `--xform` takes for the user's name, and others."""
        maker = self.maker("dotted")
        tree = self._folder / "dotted-home" / "jo.doe"
        tree.mkdir(parents=True)
        (tree / "notes").write_bytes(b"Nothing to see here.\n")
        targets = [
            "jo.doe/notes",
            "joxdoe/notes",
            "jo/doe",
            "jo.doe2",
            "jodoe/x",
            "jo",
            "./jo.doe/x",
        ]
        links = {f"link-{number}": target for number, target in enumerate(targets)}
        for name, target in links.items():
            (tree / name).symlink_to(target)
        maker.add_home("jo.doe", tree)
        restored = {"dom0/jo.doe/notes": b"Nothing to see here.\n"}
        return self.finished(maker, restored, {f"dom0/jo.doe/{n}": t for n, t in links.items()})

    @cached_property
    def old(self) -> OldScenes:
        """Those of formats 3 and 2."""
        return OldScenes(self._folder / "old")

    def maker(self, name: str, **options: object) -> BackupMaker:
        """A maker with a folder of its own; options as in its constructor."""
        chosen: dict[str, object] = {"passphrase": PASSPHRASE, **options}
        return BackupMaker(self._folder / name, **chosen)  # type: ignore[arg-type]

    def finished(
        self, maker: BackupMaker, files: dict[str, bytes], links: dict[str, str] | None = None
    ) -> Scene:
        """The scene of a maker; `qubes.xml` is added to what comes out."""
        if maker.qubes_xml is None:
            maker.qubes_xml = document_of(maker)
        return Scene(maker, {METADATA: maker.qubes_xml, **files}, links)

    def one_qube(self, name: str, data: bytes | None = None, **options: object) -> Scene:
        """A backup of one qube with one small image."""
        maker = self.maker(name, **options)
        image = noise(100) if data is None else data
        maker.add_qube("work", label="blue", files={"private.img": self.file(image)})
        return self.finished(maker, {"work/private.img": image})

    def file(self, data: bytes) -> Path:
        """A new file with these bytes."""
        number = len(list(self._folder.glob("file-*")))
        path = self._folder / f"file-{number}"
        path.write_bytes(data)
        return path

    def holed(self, size: int, data: dict[int, bytes]) -> Path:
        """A new file with holes."""
        return make_sparse(self.file(b""), size, data)

    def _three_qubes(self, name: str, backup_id: str, compression_filter: str) -> Scene:
        maker = self.maker(name, backup_id=backup_id, compression_filter=compression_filter)
        vault = self.holed(8192, {4096: noise(64)})
        work = self.holed(65_536, {0: noise(60), 32_768: noise(100)})
        mail = self.file(noise(80))
        maker.add_qube(
            "vault",
            label="black",
            netvm="",
            files={"private.img": vault},
            qubes_writer=["private.img"],
        )
        firewall = b"<firewall/>\n"
        work_files: dict[str, bytes | Path] = {"private.img": work, "firewall.xml": firewall}
        maker.add_qube("work", qid=12, backup_path="vm12", label="blue", files=work_files)
        maker.add_qube("mail", qid=2, klass="StandaloneVM", files={"private.img": mail})
        scene = self.finished(
            maker,
            {
                "vault/private.img": vault.read_bytes(),
                "work/private.img": work.read_bytes(),
                "work/firewall.xml": firewall,
                "mail/private.img": mail.read_bytes(),
            },
        )
        scene.rechunk(METADATA, 2)
        scene.rechunk(WORK, 3)
        return scene


def document_of(maker: BackupMaker) -> bytes:
    """qubes.xml of what was added, without what a restore has no use for: vectors stay small.

    The estimates of size are the same on every disk.
    """
    root = ET.fromstring(maker.default_qubes_xml())
    for path in ("pools", "properties", "domains/domain/devices", "domains/domain/tags"):
        _remove(root, path, lambda element: True)
    _remove(root, "domains/domain/properties/property", lambda e: e.get("name") == "uuid")
    _remove(root, "domains/domain/volume-config/volume", lambda e: e.get("save_on_stop") is None)
    _remove(root, "domains/domain", _is_template)
    for volume in root.iterfind("domains/domain/volume-config/volume"):
        for key in set(volume.keys()) - {"name", "save_on_stop"}:
            del volume.attrib[key]
    used = {e.text for e in root.iterfind("domains/domain/properties/property[@name='label']")}
    _remove(root, "labels/label", lambda e: e.get("id") not in used)
    for size in root.iterfind("domains/domain/features/feature[@name='backup-size']"):
        size.text = str(_SIZE_ESTIMATE)
    text: str = ET.tostring(root, encoding="unicode")
    return text.encode() + b"\n"


def _is_template(domain: ET.Element) -> bool:
    """Whether the maker has added it only to be named."""
    return int(domain.get("id", "").removeprefix("domain-")) >= 100


def _remove(root: ET.Element, path: str, unwanted: Callable[[ET.Element], bool]) -> None:
    parents = {child: parent for parent in root.iter() for child in parent}
    for element in list(root.iterfind(path)):
        if unwanted(element):
            parents[element].remove(element)
