"""The sound backups of formats 3 and 2 that vectors begin with.

Each holds two qubes, `work` with an image in several chunks and an optional file, and `vault` with
an image in one chunk or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from tests.maker import Format2Maker, Format3Maker, Member, OldMaker, get, replace, run
from tests.support.old_vectors import combed
from tests.testkit.scene import METADATA, PASSPHRASE, Members, Sound, noise

#: 24 KiB: three volumes, which take little room once they are compressed.
TEXT = b"".join(b"%06d The quick brown fox jumps.\n" % number for number in range(702))
WORK, VAULT, FIREWALL = "vm1/private.img", "vm2/private.img", "vm1/firewall.xml"
RULES = b"<QubesFirewallRules/>\n"


class OldScene(Sound):
    """A sound backup of format 3 or 2, and what needs a right HMAC in it."""

    maker: OldMaker

    def __init__(self, maker: OldMaker, files: dict[str, bytes], *, format: int) -> None:
        maker.qubes_xml = maker.default_qubes_xml()
        super().__init__(maker, {METADATA: maker.qubes_xml, **files})
        self.format = format

    def proven(self, name: str, data: bytes, members: Sequence[Member] | None = None) -> Members:
        """Other stored bytes of a member, and the HMAC that proves them."""
        changed = replace(self.members if members is None else members, name, data)
        return replace(changed, f"{name}.hmac", self.maker.proof_of(data))

    def exchanged(self, first: str, second: str) -> Members:
        """Two members exchanged, each with what proves it."""
        one, other = self.data(first), self.data(second)
        return self.proven(second, one, self.proven(first, other))

    def with_stored(self, path: str, stored: bytes) -> Members:
        """A file's stored bytes changed, cut as they were; what is longer makes the last longer."""
        members, names = list(self.members), self.chunks(path)
        sizes = [len(self.data(name)) for name in names]
        for name, size in zip(names, sizes, strict=True):
            part, stored = stored[:size], stored[size:]
            if name == names[-1]:
                part += stored
            members = self.proven(name, part, members)
        return members

    def stored(self, path: str) -> bytes:
        """A file's chunks as they are stored, joined."""
        return b"".join(self.data(name) for name in self.chunks(path))

    def proof(self, name: str, text: bytes) -> Members:
        """Another text where a member's HMAC is."""
        return replace(self.members, f"{name}.hmac", text)

    def code(self, name: str) -> str:
        """The digits of a member's HMAC."""
        text = get(self.members, f"{name}.hmac").path.read_text()
        return text.partition("= ")[2].strip()

    def encrypted(self, data: bytes, passphrase: str | None = None) -> bytes:
        """Data as `openssl enc` stores them."""
        command = self.maker.encrypt_command()
        if passphrase is not None:
            command[-1] = f"pass:{passphrase}"
        return run(command, stdin=data)

    def packed(self, volume: bytes) -> bytes:
        """A volume as it is stored."""
        assert self.maker.compression_filter is not None
        return self.encrypted(run([self.maker.compression_filter, "-c"], stdin=volume))

    def decrypted(self, data: bytes) -> bytes:
        """What `openssl enc` encrypted."""
        command = ["-d" if word == "-e" else word for word in self.maker.encrypt_command()]
        return run(command, stdin=data)


class OldScenes:
    """Args: folder: for everything that is made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def three(self) -> OldScene:
        """Format 3, as most backups of it are: encrypted, compressed."""
        return self._scene(Format3Maker(self._folder / "three", chunk_size=2048))

    @cached_property
    def three_raw(self) -> OldScene:
        """Format 3, encrypted and not compressed."""
        return self._scene(
            Format3Maker(self._folder / "three-raw", chunk_size=4096, compression_filter=None)
        )

    @cached_property
    def two(self) -> OldScene:
        """Format 2, as the published page has it: each volume compressed, then encrypted."""
        maker = Format2Maker(self._folder / "two", tape_length=10, compression_filter="gzip")
        return self._scene(maker, TEXT)

    @cached_property
    def two_zlib(self) -> OldScene:
        """Format 2, as Beta 3 writes it: no header, zlib around the cipher text."""
        maker = Format2Maker(self._folder / "two-zlib", tape_length=10, zlib_around=True)
        return self._scene(maker, TEXT)

    def combed(self, runs: int) -> OldScene:
        """Format 2, neither compressed nor encrypted: an image with so many runs of data, whose map
        of holes is longer than a volume if they are more than 402.
        """
        folder = self._folder / f"combed-{runs}"
        maker = Format2Maker(folder, encrypted=False, tape_length=10, holes_by_reading=True)
        maker.passphrase = PASSPHRASE
        image = combed(folder / "image", runs)
        maker.add_qube("work", label="blue", files={"private.img": image})
        return OldScene(maker, {"work/private.img": image.read_bytes()}, format=2)

    def long_names(self) -> OldScene:
        """Format 2: a home in which names take blocks of their own, and one of these begins a
        volume.
        """
        maker = Format2Maker(self._folder / "names", encrypted=False, tape_length=10)
        maker.passphrase = PASSPHRASE
        home = self._folder / "home" / "user"
        home.mkdir(parents=True)
        files = {f"{'n' * 140}{'M' * 30}-{n:02d}": noise(n) for n in range(24)}
        for name, data in files.items():
            (home / name).write_bytes(data)
        maker.add_qube("work", label="blue", files={"private.img": RULES})
        maker.add_home("user", home)
        restored = {f"dom0/user/{name}": data for name, data in files.items()}
        return OldScene(maker, {"work/private.img": RULES, **restored}, format=2)

    def _scene(self, maker: OldMaker, work: bytes | None = None) -> OldScene:
        maker.passphrase = PASSPHRASE
        work, vault = noise(2000) if work is None else work, noise(100)
        maker.add_qube("work", label="blue", files={"private.img": work, "firewall.xml": RULES})
        maker.add_qube("vault", label="black", netvm="", files={"private.img": vault})
        files = {"work/private.img": work, "work/firewall.xml": RULES, "vault/private.img": vault}
        return OldScene(maker, files, format=3 if isinstance(maker, Format3Maker) else 2)
