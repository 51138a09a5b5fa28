"""docs/format.md, "The outer archive", "backup-header", "qubes.xml": a whole backup."""

from __future__ import annotations

import hashlib
import re
import xml.etree.ElementTree as ET
import zlib
from dataclasses import dataclass

from tests.secondreader import protection
from tests.secondreader.tar import Member, content, joined, members

FIRST = "qubes.xml.000"
TRUE = ("1", "true", "yes")
FOLDERS = (".", "apps", "apps.templates", "kernels")
DIGEST_SIZES = {64: "sha512", 48: "sha384", 32: "sha256", 28: "sha224", 20: "sha1", 16: "md5"}


@dataclass
class Qube:
    """What qubes.xml says of a qube in the backup; `required`: files that must be there."""

    name: str
    path: str
    required: tuple[str, ...]


def _folder(names: dict[str, bytes]) -> str:
    """Finds by the header's name what stands in front of every name."""
    for front in ("backup-header", "qubes.xml.000"):
        for name in sorted(names, key=len):
            if name == front or name.endswith(f"/{front}"):
                return name.removesuffix(front)
    return ""


class Backup:
    """Opens a backup and proves its header."""

    def __init__(self, data: bytes, passphrase: str | bytes) -> None:
        self.passphrase = passphrase.encode() if isinstance(passphrase, str) else passphrase
        stored: dict[str, bytes] = {}
        for member in members(data, concatenated=True):
            name = re.sub(r"^(\./)+", "", member.name.decode())
            stored.setdefault(name, data[member.data : member.data + member.stored])
        folder = _folder(stored)  # of a backup that was packed again
        self.members = {
            name.removeprefix(folder): stored[name] for name in stored if name.startswith(folder)
        }
        self.header = self._header()
        self.version = int(self.header.get("version", "2"))
        self.digest = self.header.get("hmac-algorithm", "")
        self._prove_header()

    def _header(self) -> dict[str, str]:
        lines = self.members.get("backup-header", b"").decode().split("\n")
        pairs = [line.strip().partition("=") for line in lines if line.strip()]
        assert len({key for key, _, _ in pairs}) == len(pairs)
        return {key.replace("backup_id", "backup-id"): value for key, _, value in pairs}

    def _prove_header(self) -> None:
        if self.version == 4:
            copy = self.members["backup-header.hmac"]
            plain = protection.scrypt_decrypt(b"backup-header!" + self.passphrase, copy)
            assert plain == self.members["backup-header"], "the header was altered"
            return
        first = "backup-header" if "backup-header" in self.members else "qubes.xml.000"
        if not self.digest:
            size = len(protection.said(self.members[f"{first}.hmac"]))
            self.digest = DIGEST_SIZES[size]
        self._prove(first)

    def _is_true(self, key: str) -> bool:
        return self.header.get(key, "").lower() in TRUE

    def _prove(self, name: str) -> bytes:
        stored = self.members[name]
        said = protection.said(self.members[f"{name}.hmac"])
        assert protection.hmac_of(self.passphrase, self.digest, stored) == said
        return stored

    def paths(self) -> list[str]:
        """The files in the backup, `qubes.xml` first."""
        suffix = r"\.enc" if self.version == 4 else ""
        found = (re.fullmatch(rf"(.+)\.\d{{3,}}{suffix}", name) for name in self.members)
        return list(dict.fromkeys(match[1] for match in found if match))

    def chunks(self, path: str) -> list[str]:
        """The names of a file's chunks, without a suffix, in order."""
        suffix = ".enc" if self.version == 4 else ""
        names: list[str] = []
        while f"{path}.{len(names):03d}{suffix}" in self.members:
            names.append(f"{path}.{len(names):03d}")
        return names

    def chunk(self, name: str) -> bytes:
        """What one chunk of format 4 or 2 holds; of format 3, its stored bytes."""
        if self.version == 4:
            try:
                return self._scrypt_chunk(name, name)
            except AssertionError:
                if not name.startswith("qubes.xml."):
                    raise
                return self._scrypt_chunk(name, f"../../{name}")  # R4.0.1-rc1
        stored = self._prove(name)
        return self._volume(stored) if self.version == 2 else stored

    def _scrypt_chunk(self, name: str, bound_to: str) -> bytes:
        secret = f"{self.header['backup-id']}!{bound_to}!".encode() + self.passphrase
        return protection.scrypt_decrypt(secret, self.members[f"{name}.enc"])

    def _volume(self, stored: bytes) -> bytes:
        """Format 2: each chunk for itself; what was done shows in its first bytes."""
        if stored[0] & 15 == 8 and int.from_bytes(stored[:2], "big") % 31 == 0:
            stored = zlib.decompress(stored)
        if stored.startswith(b"Salted__"):
            stored = self._decrypt(stored)
        return protection.decompress(stored, protection.told_filter(stored))

    def _decrypt(self, stored: bytes) -> bytes:
        cipher = self.header.get("crypto-algorithm", "aes-256-cbc")
        return protection.openssl_decrypt(self.passphrase, cipher, stored)

    def archive(self, path: str) -> bytes:
        """A file's inner archive."""
        chunks = [self.chunk(name) for name in self.chunks(path)]
        if self.version == 2:
            return joined(chunks)
        stream = b"".join(chunks)
        if self.version == 3 and self._is_true("encrypted"):
            stream = self._decrypt(stream)
        words = self.header.get("compression-filter", "").split()
        named = words[0].rpartition("/")[2] if words else None
        return protection.decompress(stream, named if self._is_true("compressed") else None)

    def is_folder(self, path: str) -> bool:
        """Whether a file is a folder archive."""
        if path.startswith("dom0-home/"):
            return True
        if self.version < 4 and path.rpartition("/")[2] in FOLDERS:
            return True
        archive = self.archive(path)
        first = next(members(archive))
        return (first.name.rstrip(b"/").decode(), first.type) == (path, "5")

    def file(self, path: str) -> bytes:
        """The content of the one file in an inner archive."""
        archive = self.archive(path)
        (member,) = members(archive)
        names = (path, "/qubes.xml") if path == "qubes.xml" else (path,)
        assert member.name.decode() in names, "another file"
        assert member.type in "0S", "another file"
        return content(archive, member)

    def tree(self, path: str) -> dict[bytes, tuple[Member, str]]:
        """A folder archive's entries below the folder: the member, and SHA-256 of its content."""
        archive = self.archive(path)
        folder = path.removesuffix("/.").encode()
        found = {}
        for member in members(archive):
            name = member.name.rstrip(b"/")
            prefixes = (path.encode(), folder)
            base = next(p for p in prefixes if name == p or name.startswith(p + b"/"))
            digest = hashlib.sha256(content(archive, member)).hexdigest()
            found[name[len(base) + 1 :] or b"."] = (member, digest)
        return found

    def restored(self) -> dict[str, tuple[int, str]]:
        """Length and SHA-256 of each file that is somebody's, as `QUBE/FILE`.

        Fails where something that must be there is not.
        """
        qubes = self.qubes()
        found = {"qubes.xml": _measured(self.file("qubes.xml"))}
        for qube in qubes:
            for file in qube.required:
                assert f"{qube.path}/{file}".removesuffix("/") in self.paths(), "missing"
        for path in self.paths():
            name = _owned(path, qubes, homes=self.version < 4)
            if name is not None and self.is_folder(path):
                found |= self._restored_folder(path, name.removesuffix("/."))
            elif name is not None:
                found[name] = _measured(self.file(path))
        return found

    def _restored_folder(self, path: str, name: str) -> dict[str, tuple[int, str]]:
        tree = self.tree(path)
        found = {}
        for below, (member, digest) in tree.items():
            if member.type == "1":
                folder = path.removesuffix("/.").encode() + b"/"
                member, digest = tree[member.link.removeprefix(folder)]
            if member.type in "0S":
                shown = below.decode("utf-8", "surrogateescape")
                found[f"{name}/{shown}"] = member.size, digest
        return found

    def qubes(self) -> list[Qube]:
        """What qubes.xml says."""
        root = ET.fromstring(self.file("qubes.xml"))
        found = map(_release4, root.iterfind("domains/domain"))
        if root.tag == "QubesVmCollection":
            found = map(_release3, root)
        return [qube for qube in found if qube is not None]


def _measured(content: bytes) -> tuple[int, str]:
    return len(content), hashlib.sha256(content).hexdigest()


def _owned(path: str, qubes: list[Qube], *, homes: bool) -> str | None:
    """QUBE/FILE of a path; None if it is nobody's. `homes`: dom0 need not be listed."""
    for qube in qubes:
        if path == qube.path and qube.name == "dom0":
            return f"dom0/{path.rpartition('/')[2]}"
        if path.startswith(f"{qube.path}/") and qube.name != "dom0":
            return qube.name + path[len(qube.path) :]
    return f"dom0/{path.rpartition('/')[2]}" if homes and path.startswith("dom0-home/") else None


def _release4(domain: ET.Element) -> Qube | None:
    texts = {e.get("name", ""): (e.text or "").strip() for e in domain.iter("feature")}
    texts |= {e.get("name", ""): (e.text or "").strip() for e in domain.iter("property")}
    if not texts.get("backup-content"):
        return None
    path = texts["backup-path"].rstrip("/")
    if domain.get("class") == "AdminVM":
        return Qube("dom0", path, ("",))
    saved = (v for v in domain.iter("volume") if v.get("save_on_stop") == "True")
    return Qube(texts["name"], path, tuple(f"{volume.get('name')}.img" for volume in saved))


def _release3(element: ET.Element) -> Qube | None:
    if element.get("backup_content") != "True":
        return None
    path = element.get("backup_path", "").rstrip("/")
    if element.tag == "QubesAdminVm":
        return Qube("dom0", path, ("",))
    required: tuple[str, ...] = ("private.img",)
    if element.tag in ("QubesTemplateVm", "QubesTemplateHVm"):
        required = (".",)
    elif element.get("template_qid", "none").lower() == "none":
        required = ("private.img", "root.img")
    return Qube(element.get("name", ""), path, required)
