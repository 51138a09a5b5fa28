"""What makers of every format share: members, qubes and homes that are collected, their files
staged under the names that tar is to store, and the outer archive.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.maker.qubesxml import Domain
from tests.maker.stored import append_outer_member
from tests.maker.tools import run

CHUNK_BYTES = 100 << 20
PASSPHRASE = "correct horse battery staple"


@dataclass(frozen=True)
class Member:
    """One stored member: its name in the outer archive, and the file that holds its (encrypted)
    bytes.
    """

    name: str
    path: Path

    @property
    def directory(self) -> Path | None:
        """The folder below which `path` is `name`, which tar is to be run in; None where the file
        is named otherwise.
        """
        directory = Path(*self.path.parts[: -len(Path(self.name).parts)])
        return directory if directory / self.name == self.path else None


@dataclass(frozen=True)
class Qube:
    """What `add_qube` or `add_home` was told; `files` are staged under their final names."""

    domain: Domain
    subdir: str
    files: Mapping[str, Path]
    qubes_writer: Collection[str] = ()
    in_xml: bool = True
    home: bool = False


class Collector:
    """Collects qubes and homes, then writes one backup; everything it makes stands below `workdir`.

    `header` is the whole backup-header, or None; `compression_filter` the program, or None.
    `qubes_xml` may be set before `members()` or `write()`, to replace the document
    (`default_qubes_xml()` is what it would be). A format says how they are stored: `_build`.
    """

    header: bytes | None
    compression_filter: str | None

    def __init__(self, workdir: Path, *, passphrase: str, chunk_size: int) -> None:
        self.workdir = workdir
        self.passphrase = passphrase
        self.chunk_size = chunk_size
        self.qubes_xml: bytes | None = None
        self.qubes: list[Qube] = []
        self._members: list[Member] | None = None
        self._stage_numbers = itertools.count()
        self._root = workdir / "members"
        self._root.mkdir(parents=True)

    def add_home(self, user: str, tree: Path) -> Qube:
        """Adds dom0 with the folder `tree` as `dom0-home/USER`; copied first if the folder is
        named otherwise.
        """
        if tree.name != user:
            copy = self._stage_folder() / user
            run(["cp", "-a", "--sparse=always", str(tree), str(copy)])
            tree = copy
        size = sum(path.lstat().st_blocks * 512 for path in tree.rglob("*"))
        domain = dom0_domain(backup_path=f"dom0-home/{user}", backup_size=size)
        return self._add(Qube(domain, "dom0-home/", {user: tree}, home=True))

    def default_qubes_xml(self) -> bytes:
        """qubes.xml for what was added so far."""
        raise NotImplementedError

    def members(self) -> list[Member]:
        """Builds every stored member, once, in the writer's order; a new list each time."""
        if self._members is None:
            self._members = list(self._build())
        return list(self._members)

    def write(self, out: Path) -> Path:
        """Writes the whole backup to `out`."""
        return assemble(self.members(), out)

    def _build(self) -> Iterator[Member]:
        raise NotImplementedError

    def _document(self) -> Path:
        """qubes.xml, staged."""
        document = self.default_qubes_xml() if self.qubes_xml is None else self.qubes_xml
        return self._stage({"qubes.xml": document})["qubes.xml"]

    def _next_qid(self) -> int:
        return max([0, *(qube.domain.qid for qube in self.qubes)]) + 1

    def _add(self, qube: Qube) -> Qube:
        if self._members is not None:
            raise RuntimeError("the members are built already")
        self.qubes.append(qube)
        return qube

    def _stage(self, files: Mapping[str, bytes | Path]) -> dict[str, Path]:
        """Puts each file under its final name, a `Path` by a link that tar follows
        (`--dereference`).
        """
        folder = self._stage_folder()
        for name, content in files.items():
            if isinstance(content, Path):
                (folder / name).symlink_to(content.absolute())
            else:
                (folder / name).write_bytes(content)
        return {name: folder / name for name in files}

    def _stage_folder(self) -> Path:
        folder = self.workdir / "stage" / str(next(self._stage_numbers))
        folder.mkdir(parents=True)
        return folder


def assemble(members: Sequence[Member], out: Path) -> Path:
    """Writes the outer archive: each member by its own `tar`, one after another; nothing is held
    in memory.
    """
    with out.open("wb") as archive:
        for member in members:
            with _tar_folder(member, out.parent) as directory:
                append_outer_member(directory, member.name, archive)
    return out


@contextmanager
def _tar_folder(member: Member, scratch: Path) -> Iterator[Path]:
    """A folder in which the member's file has the member's name: its own, or one made for the time
    being.
    """
    if member.directory is not None:
        yield member.directory
        return
    with tempfile.TemporaryDirectory(prefix=".member-", dir=scratch) as folder:
        copy = Path(folder) / member.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(member.path, copy)
        yield Path(folder)


def dom0_domain(*, backup_path: str | None, backup_size: int) -> Domain:
    return Domain(
        name="dom0",
        qid=0,
        klass="AdminVM",
        label="black",
        template=None,
        netvm=None,
        volumes={},
        backup_path=backup_path,
        backup_size=backup_size,
    )
