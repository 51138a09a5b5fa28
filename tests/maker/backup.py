"""`BackupMaker`: qubes and homes in, a backup of format 4 out, in the order and the way of Qubes'
own writer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from tests.maker.collected import (
    CHUNK_BYTES,
    PASSPHRASE,
    Collector,
    Member,
    Qube,
    dom0_domain,
)
from tests.maker.qubesxml import Domain, qubes_xml
from tests.maker.stored import FAST_SCRYPT, scrypt_encrypt, split_chunks
from tests.maker.tarwriter import inner_tar, qubes_tarwriter

BACKUP_ID = "20240917T101112-1234"


def published_header(backup_id: str = BACKUP_ID, compression_filter: str = "gzip") -> bytes:
    """The header as the published procedure for format 4 shows it: five lines, `backup_id`, no
    `hmac-algorithm`.
    """
    return (
        "version=4\nencrypted=True\ncompressed=True\n"
        f"compression-filter={compression_filter}\nbackup_id={backup_id}\n"
    ).encode("ascii")


class BackupMaker(Collector):
    """A maker of format 4.

    `compression_filter` None: raw inner archives and `compressed=False`. `header` replaces the
    whole header text; chunks still follow `compression_filter` and `backup_id`. `chunk_size` is in
    bytes. `named_pipe`: GNU tar writes onto one, as early R4.0 had it. Before `members()` or
    `write()` one may set `scrypt_options_for`, chunk name without `.enc` to options, because
    parameters differ from chunk to chunk in real backups.
    """

    header: bytes

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
        named_pipe: bool = False,
    ) -> None:
        super().__init__(workdir, passphrase=passphrase, chunk_size=chunk_size)
        self.backup_id = backup_id
        self.compression_filter = compression_filter
        self.header = self._default_header(id_key) if header is None else header
        self.scrypt_options = tuple(scrypt_options)
        self.named_pipe = named_pipe
        self.scrypt_options_for: dict[str, Sequence[str]] = {}

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
        qid = self._next_qid() if qid is None else qid
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

    def default_qubes_xml(self) -> bytes:
        """qubes.xml for what was added so far; dom0 is always in it."""
        domains = [qube.domain for qube in self.qubes if qube.in_xml]
        if not any(domain.qid == 0 for domain in domains):
            domains.insert(0, dom0_domain(backup_path=None, backup_size=0))
        return qubes_xml(domains)

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

    def _build(self) -> Iterator[Member]:
        header = Member("backup-header", self._root / "backup-header")
        header.path.write_bytes(self.header)
        yield header
        proof = Member("backup-header.hmac", self._root / "backup-header.hmac")
        passphrase = f"backup-header!{self.passphrase}".encode()
        scrypt_encrypt(header.path, proof.path, passphrase, self.scrypt_options)
        yield proof
        document = self._gnu_tar(self._document(), "", dereference=True)
        with document as stream:
            yield from self._chunks("qubes.xml", stream)
        for qube in self.qubes:
            for name, path in qube.files.items():
                with self._archive(qube, name, path) as stream:
                    yield from self._chunks(qube.subdir + name, stream)

    def _archive(self, qube: Qube, name: str, path: Path) -> AbstractContextManager[BinaryIO]:
        chosen = self.compression_filter
        if name in qube.qubes_writer:
            return qubes_tarwriter(path, qube.subdir + name, compression_filter=chosen)
        return self._gnu_tar(path, qube.subdir, dereference=not qube.home)

    def _gnu_tar(
        self, path: Path, subdir: str, *, dereference: bool
    ) -> AbstractContextManager[BinaryIO]:
        return inner_tar(
            path,
            subdir,
            compression_filter=self.compression_filter,
            dereference=dereference,
            named_pipe=self.named_pipe,
        )

    def _chunks(self, name: str, stream: BinaryIO) -> Iterator[Member]:
        for index, chunk in enumerate(split_chunks(stream, self.chunk_size, self.workdir)):
            yield self.encrypt(f"{name}.{index:03d}", chunk)
