"""What formats 3 and 2 share: members in pairs, `NAME` and its `NAME.hmac`, and OpenSSL's programs.

`openssl enc -md MD5` is what `openssl enc` did by itself at that time; `openssl dgst -hmac` reads
the member from standard input, as Qubes ran it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.maker.collected import Collector, Member, Qube, dom0_domain
from tests.maker.collection import collection_xml, folder_of
from tests.maker.qubesxml import Domain, Settings
from tests.maker.tools import run

#: How OpenSSL has written the text of a `.hmac`; Qubes' own time knows the first.
HMAC_TEXTS = {
    "1.0": "(stdin)= {hex}\n",
    "1.1": "HMAC-{digest}(stdin)= {hex}\n",
    "3": "SHA2-512(stdin)= {hex}\n",
}
#: Folders that are stored whole.
FOLDER_ARCHIVES = (".", "apps", "apps.templates", "kernels")


class OldMaker(Collector):
    """A maker of format 3 or 2; see `Format3Maker` and `Format2Maker`.

    `digest` and `cipher` as openssl names them. `compression_filter` None: no compression.
    `hmac_text`: how the text of each `.hmac` is spelled, with `{hex}` and `{digest}`; None leaves
    what the installed openssl says. `dereference`: tar follows symbolic links, as since late 2015;
    without it a `Path` that is a symbolic link is stored as one. `dom0`: whether qubes.xml knows
    dom0, which R2 leaves out. `rewrite_links`: tar's --xform changes symbolic links' targets too,
    as it always did. `header` None: the backup has no header at all.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        header: bytes | None,
        passphrase: str,
        encrypted: bool,
        compression_filter: str | None,
        cipher: str,
        digest: str,
        hmac_text: str | None,
        dereference: bool,
        dom0: bool,
        rewrite_links: bool,
        chunk_size: int,
    ) -> None:
        super().__init__(workdir, passphrase=passphrase, chunk_size=chunk_size)
        self.header = header
        self.encrypted = encrypted
        self.compression_filter = compression_filter
        self.cipher = cipher
        self.digest = digest
        self.hmac_text = hmac_text
        self.dereference = dereference
        self.dom0 = dom0
        self.rewrite_links = rewrite_links

    def add_qube(
        self,
        name: str,
        *,
        qid: int | None = None,
        klass: str = "AppVM",
        tag: str | None = None,
        label: str = "red",
        template: str | None = "fedora-20-x64",
        netvm: str | None = None,
        files: Mapping[str, bytes | Path],
        backup_content: bool = True,
        in_xml: bool = True,
        settings: Settings | None = None,
    ) -> Qube:
        """Adds a qube and its files, which keep the order of `files`.

        A `Path` to a folder is stored whole, "." is the qube's own folder. `tag`: the element of
        qubes.xml, where the class does not say which. The qube's path in the backup is `vmQID`, or
        its folder's own where nothing is encrypted, as with Qubes.
        """
        domain = Domain(
            name=name,
            qid=self._next_qid() if qid is None else qid,
            klass=klass,
            label=label,
            template=template,
            netvm=netvm,
            volumes={},
            backup_path=None,
            backup_size=0,
            tag=tag,
            settings=settings or Settings(),
        )
        path = f"vm{domain.qid}" if self.encrypted else folder_of(domain)
        if backup_content:
            domain = Domain(**{**vars(domain), "backup_path": path, "backup_size": 1 << 20})
        return self._add(Qube(domain, path + "/", self._stage(files), in_xml=in_xml))

    def default_qubes_xml(self) -> bytes:
        """qubes.xml for what was added so far."""
        domains = [qube.domain for qube in self.qubes if qube.in_xml]
        domains = [domain for domain in domains if domain.qid or self.dom0]
        if self.dom0 and not any(domain.qid == 0 for domain in domains):
            domains.insert(0, dom0_domain(backup_path=None, backup_size=0))
        return collection_xml(domains)

    def proof_of(self, content: bytes) -> bytes:
        """The text that authenticates stored bytes."""
        command = ["openssl", "dgst", f"-{self.digest}", "-hmac", self.passphrase]
        text = run(command, stdin=content).decode()
        if self.hmac_text is not None:
            code = text.partition("= ")[2].strip()
            text = self.hmac_text.format(hex=code, digest=self.digest)
        return text.encode()

    def hmac(self, member: Member) -> Member:
        """The member that authenticates another; it is made beside the backup's own."""
        path = self._stage_folder() / "hmac"
        path.write_bytes(self.proof_of(member.path.read_bytes()))
        return Member(f"{member.name}.hmac", path)

    def encrypt_command(self) -> list[str]:
        """What encrypts standard input."""
        secret = f"pass:{self.passphrase}"
        return ["openssl", "enc", "-e", f"-{self.cipher}", "-md", "MD5", "-pass", secret]

    def _default_lines(self) -> list[str]:
        """The header's lines behind its version; keys and order as at R3.2."""
        compressed = self.compression_filter is not None
        lines = [f"hmac-algorithm={self.digest}", f"crypto-algorithm={self.cipher}"]
        return [*lines, f"encrypted={self.encrypted}", f"compressed={compressed}"]

    def _build(self) -> Iterator[Member]:
        if self.header is not None:
            yield from self._pair("backup-header", self.header)
        yield from self._chunks(self._document(), "", "qubes.xml")
        for qube in self.qubes:
            for name, path in qube.files.items():
                yield from self._chunks(path, qube.subdir, name)

    def _chunks(self, source: Path, subdir: str, name: str) -> Iterator[Member]:
        raise NotImplementedError

    def _pair(self, name: str, content: bytes) -> Iterator[Member]:
        for stored_name, stored in ((name, content), (f"{name}.hmac", self.proof_of(content))):
            path = self._root / stored_name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(stored)
            yield Member(stored_name, path)

    def _follows(self, subdir: str) -> bool:
        """Whether tar follows symbolic links here."""
        return self.dereference and subdir != "dom0-home/"

    def _stage(self, files: Mapping[str, bytes | Path]) -> dict[str, Path]:
        if self.dereference:
            staged = super()._stage({n: c for n, c in files.items() if n != "."})
        else:
            staged = self._stage_copies(files)
        whole = files.get(".")
        staged |= {".": whole.absolute()} if isinstance(whole, Path) else {}
        return {name: staged[name] for name in files}

    def _stage_copies(self, files: Mapping[str, bytes | Path]) -> dict[str, Path]:
        """Copies, as a link in their place would be stored."""
        folder = self._stage_folder()
        for name, content in files.items():
            if isinstance(content, bytes):
                (folder / name).write_bytes(content)
            elif name != ".":
                run(["cp", "-a", "--sparse=always", str(content), str(folder / name)])
        return {name: folder / name for name in files if name != "."}
