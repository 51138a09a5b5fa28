"""`BackupMaker`: qubes and homes in, a backup of format 4 out, in the order and the way of Qubes'
own writer.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tests.maker.qubesxml import Domain, qubes_xml
from tests.maker.stored import FAST_SCRYPT, append_outer_member, scrypt_encrypt, split_chunks
from tests.maker.tarwriter import inner_tar, qubes_tarwriter
from tests.maker.tools import run

CHUNK_BYTES = 100 << 20
BACKUP_ID = "20240917T101112-1234"
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


def published_header(backup_id: str = BACKUP_ID, compression_filter: str = "gzip") -> bytes:
    """The header as the published procedure for format 4 shows it: five lines, `backup_id`, no
    `hmac-algorithm`.
    """
    return (
        "version=4\nencrypted=True\ncompressed=True\n"
        f"compression-filter={compression_filter}\nbackup_id={backup_id}\n"
    ).encode("ascii")


class BackupMaker:
    """Collects qubes and homes, then writes one backup; everything it makes stands below `workdir`.

    `compression_filter` None: raw inner archives and `compressed=False`. `header` replaces the
    whole header text; chunks still follow `compression_filter` and `backup_id`. `chunk_size` is in
    bytes. Before `members()` or `write()` one may set `qubes_xml`, to replace the document
    (`default_qubes_xml()` is what it would be), and `scrypt_options_for`, chunk name without
    `.enc` to options, because parameters differ from chunk to chunk in real backups.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        passphrase: str = PASSPHRASE,
        backup_id: str = BACKUP_ID,
        compression_filter: str | None = "gzip",
        header: bytes | None = None,
        id_key: str = "backup-id",
        chunk_size: int = CHUNK_BYTES,
        scrypt_options: Sequence[str] = FAST_SCRYPT,
    ) -> None:
        self.workdir = workdir
        self.passphrase = passphrase
        self.backup_id = backup_id
        self.compression_filter = compression_filter
        self.header = self._default_header(id_key) if header is None else header
        self.chunk_size = chunk_size
        self.scrypt_options = tuple(scrypt_options)
        self.scrypt_options_for: dict[str, Sequence[str]] = {}
        self.qubes_xml: bytes | None = None
        self.qubes: list[Qube] = []
        self._members: list[Member] | None = None
        self._stage_numbers = itertools.count()
        self._root = workdir / "members"
        self._root.mkdir(parents=True)

    def _default_header(self, id_key: str) -> bytes:
        """Keys and their order as in QubesOS/qubes-core-admin `qubes/backup.py`, class
        BackupHeader.
        """
        lines = ["version=4", "encrypted=True", f"compressed={self.compression_filter is not None}"]
        if self.compression_filter is not None:
            lines.append(f"compression-filter={self.compression_filter}")
        lines += ["hmac-algorithm=scrypt", f"{id_key}={self.backup_id}"]
        return "".join(f"{line}\n" for line in lines).encode("ascii")

    def add_qube(
        self,
        name: str,
        *,
        qid: int | None = None,
        klass: str = "AppVM",
        label: str = "red",
        template: str | None = "fedora-40",
        netvm: str | None = None,
        files: Mapping[str, bytes | Path],
        volumes: Mapping[str, bool] | None = None,
        backup_content: bool = True,
        backup_path: str | None = None,
        qubes_writer: Collection[str] = (),
        in_xml: bool = True,
    ) -> Qube:
        """Adds a qube and its files, which keep the order of `files`.

        `netvm`: None is the default one (no property), "" is none. `volumes`: name → save_on_stop,
        by default `{"private": True}`. `backup_path`: by default `vmQID/`; one without a slash
        stands so in qubes.xml, the files are in that folder all the same. `qubes_writer`: names in
        `files` that Qubes' own writer stores. A `Path` is read when the backup is written, sparse
        files stay sparse.
        """
        qid = max([0, *(qube.domain.qid for qube in self.qubes)]) + 1 if qid is None else qid
        path = f"vm{qid}/" if backup_path is None else backup_path
        staged = self._stage(files)
        domain = Domain(
            name=name,
            qid=qid,
            klass=klass,
            label=label,
            template=template,
            netvm=netvm,
            volumes={"private": True} if volumes is None else volumes,
            backup_path=path if backup_content else None,
            backup_size=sum(file.stat().st_blocks * 512 for file in staged.values()),
        )
        subdir = path if path.endswith("/") or not path else path + "/"
        return self._add(Qube(domain, subdir, staged, qubes_writer, in_xml))

    def add_home(self, user: str, tree: Path) -> Qube:
        """Adds dom0 with the folder `tree` as `dom0-home/USER`; copied first if the folder is
        named otherwise.
        """
        if tree.name != user:
            copy = self._stage_folder() / user
            run(["cp", "-a", "--sparse=always", str(tree), str(copy)])
            tree = copy
        size = sum(path.lstat().st_blocks * 512 for path in tree.rglob("*"))
        domain = _dom0(backup_path=f"dom0-home/{user}", backup_size=size)
        return self._add(Qube(domain, "dom0-home/", {user: tree}, home=True))

    def default_qubes_xml(self) -> bytes:
        """qubes.xml for what was added so far; dom0 is always in it."""
        domains = [qube.domain for qube in self.qubes if qube.in_xml]
        if not any(domain.qid == 0 for domain in domains):
            domains.insert(0, _dom0(backup_path=None, backup_size=0))
        return qubes_xml(domains)

    def members(self) -> list[Member]:
        """Builds every stored member, once, in the writer's order; a new list each time."""
        if self._members is None:
            self._members = list(self._build())
        return list(self._members)

    def write(self, out: Path) -> Path:
        """Writes the whole backup to `out`."""
        return assemble(self.members(), out)

    def combined_passphrase(self, name: str) -> bytes:
        """The passphrase of a stored file by its name without `.enc`, such as
        `vm1/private.img.000`.
        """
        return f"{self.backup_id}!{name}!{self.passphrase}".encode()

    def encrypt(self, name: str, data: Path | bytes) -> Member:
        """Encrypts `data` as the chunk `name` (`vm1/private.img.000`) of this backup: the member
        `NAME.enc`.
        """
        out = self._root / f"{name}.enc"
        options = self.scrypt_options_for.get(name, self.scrypt_options)
        scrypt_encrypt(data, out, self.combined_passphrase(name), options)
        return Member(f"{name}.enc", out)

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

    def _build(self) -> Iterator[Member]:
        header = Member("backup-header", self._root / "backup-header")
        header.path.write_bytes(self.header)
        yield header
        proof = Member("backup-header.hmac", self._root / "backup-header.hmac")
        passphrase = f"backup-header!{self.passphrase}".encode()
        scrypt_encrypt(header.path, proof.path, passphrase, self.scrypt_options)
        yield proof
        document = self.default_qubes_xml() if self.qubes_xml is None else self.qubes_xml
        staged = self._stage({"qubes.xml": document})["qubes.xml"]
        with inner_tar(staged, "", compression_filter=self.compression_filter) as stream:
            yield from self._chunks("qubes.xml", stream)
        for qube in self.qubes:
            for name, path in qube.files.items():
                with self._archive(qube, name, path) as stream:
                    yield from self._chunks(qube.subdir + name, stream)

    def _archive(self, qube: Qube, name: str, path: Path) -> AbstractContextManager[BinaryIO]:
        chosen = self.compression_filter
        if name in qube.qubes_writer:
            return qubes_tarwriter(path, qube.subdir + name, compression_filter=chosen)
        return inner_tar(path, qube.subdir, compression_filter=chosen, dereference=not qube.home)

    def _chunks(self, name: str, stream: BinaryIO) -> Iterator[Member]:
        for index, chunk in enumerate(split_chunks(stream, self.chunk_size, self.workdir)):
            yield self.encrypt(f"{name}.{index:03d}", chunk)


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


def _dom0(*, backup_path: str | None, backup_size: int) -> Domain:
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
