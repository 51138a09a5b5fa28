"""A sound backup that faults are put into: its members, what a restore of it gives, and the
means to store something else in it under a right MAC.

Members are as `tests.maker` has them, so `tests.maker.damage` works on them. Real `tar` writes
the outer archive of each, real `scrypt` encrypts, real filters compress.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from tests.maker import (
    BackupMaker,
    Collector,
    Member,
    get,
    outer_member,
    replace,
    run,
    scrypt_encrypt,
)
from tests.maker.stored import FAST_SCRYPT
from tests.support.restored import content
from tests.support.tarbytes import ZEROS, header, padded
from tests.testkit.vector import EXPECTATIONS, Vector

HEADER = "backup-header"
HEADER_COPY = "backup-header.hmac"
METADATA = "qubes.xml"

PASSPHRASE = "correct horse battery staple"

Members = list[Member]
#: A backup: members to be assembled, or the bytes of the whole.
Backup = Sequence[Member] | bytes


def noise(size: int) -> bytes:
    """Bytes that don't compress, the same each time."""
    return random.Random(size).randbytes(size)


class Sound:
    """One sound backup, of any format.

    Attributes:
        format: of the backup.

    Args:
        maker: with everything added.
        files: path below the output folder → content, of a restore of everything.
        links: path of a symbolic link → its target.
    """

    format = 4

    def __init__(
        self,
        maker: Collector,
        files: Mapping[str, bytes],
        links: Mapping[str, str] | None = None,
    ) -> None:
        self.maker: Collector = maker
        self.members: Sequence[Member] = tuple(maker.members())
        self.files = dict(files)
        self.links = dict(links or {})
        self._scratch = maker.workdir / "faults"
        self._scratch.mkdir()
        self._archives: dict[tuple[str, Path], bytes] = {}

    # Vectors

    def vector(
        self,
        name: str,
        comment: str,
        backup: Backup,
        *,
        expect: str = "success",
        exit: int | None = None,
        lost: Mapping[str, str] | None = None,
        unseen: Iterable[str] = (),
        files: Mapping[str, bytes] | None = None,
        links: Mapping[str, str] | None = None,
        warnings: Sequence[str] = (),
        source: str = "any",
        passphrase: str | bytes | None = None,
    ) -> Vector:
        """A vector of this scene: all comes out that is neither lost nor unseen.

        Args:
            name: of the vector.
            comment: what the fault is.
            backup: with the fault in it.
            expect: see `EXPECTATIONS`.
            exit: where it is not the usual one.
            lost: QUBE/FILE → how.
            unseen: files that don't come out, and that a restore can't know of.
            files: comes out besides, or instead.
            links: instead of the scene's.
            warnings: names that must be mentioned.
            source: see `Vector`.
            passphrase: instead of the right one.
        """
        status = EXPECTATIONS[expect][0] if exit is None else exit
        nothing = status >= 2
        gone = (*(lost or {}), *unseen)
        kept = {} if nothing else self.without(*gone) | dict(files or {})
        kept_links = {p: t for p, t in self.links.items() if not _below(p, gone)}
        secret = self.maker.passphrase if passphrase is None else passphrase
        return Vector(
            name=name,
            comment=comment,
            expect=expect,
            exit=status,
            passphrase=secret.encode() if isinstance(secret, str) else secret,
            backup=backup if isinstance(backup, bytes) else self.assemble(backup),
            files={path: content(data) for path, data in kept.items()},
            links={} if nothing else dict(kept_links if links is None else links),
            lost={} if nothing else dict(_met(lost or {}) if expect == "limit" else lost or {}),
            warnings=tuple(warnings),
            source=source,
            format=self.format,
        )

    def without(self, *gone: str) -> dict[str, bytes]:
        """What comes out but for some files, or for what is below a folder."""
        return {path: data for path, data in self.files.items() if not _below(path, gone)}

    # The outer archive

    def archive(self, member: Member) -> bytes:
        """The outer archive of one member, by real tar, which runs once for each."""
        key = member.name, member.path
        if key not in self._archives:
            known = member if member.directory is not None else self._renamed(member)
            assert known.directory is not None
            self._archives[key] = outer_member(known.directory, member.name)
        return self._archives[key]

    def assemble(self, members: Iterable[Member]) -> bytes:
        """The whole backup."""
        return b"".join(map(self.archive, members))

    def before(self, name: str) -> bytes:
        """The archives in front of a member."""
        return self.assemble(self.members[: self._index(name)])

    def after(self, name: str) -> bytes:
        """The archives behind a member."""
        return self.assemble(self.members[self._index(name) + 1 :])

    def with_archive(self, name: str, archive: bytes) -> bytes:
        """The whole backup with other bytes where a member's outer archive was."""
        return self.before(name) + archive + self.after(name)

    def _index(self, name: str) -> int:
        return [member.name for member in self.members].index(name)

    # Members

    def data(self, name: str) -> bytes:
        """A member's stored bytes."""
        return get(self.members, name).path.read_bytes()

    def member(self, name: str, data: bytes) -> Member:
        """A new member, in a folder of its own."""
        path = self._folder() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return Member(name, path)

    def edited(self, name: str, edit: Callable[[bytearray], object]) -> Members:
        """`edit` has changed the stored bytes of a member."""
        data = bytearray(self.data(name))
        edit(data)
        return replace(self.members, name, bytes(data))

    def inserted(self, behind: str, *new: Member) -> Members:
        """New members behind another."""
        index = self._index(behind) + 1
        return [*self.members[:index], *new, *self.members[index:]]

    def chunks(self, path: str) -> list[str]:
        """Names of a file's members."""
        return [
            member.name
            for member in self.members
            for stem, _, number in [member.name.removesuffix(".enc").rpartition(".")]
            if stem == path and number.isdigit()
        ]

    def _folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._scratch))

    def _renamed(self, member: Member) -> Member:
        return self.member(member.name, member.path.read_bytes())


class Scene(Sound):
    """A sound backup of format 4, and what needs a right MAC in it."""

    maker: BackupMaker

    def sealed(self, name: str, data: bytes, options: Sequence[str] = FAST_SCRYPT) -> Member:
        """Data encrypted as the chunk `name` (`vm1/private.img.000`) of this backup."""
        out = self._folder() / f"{name}.enc"
        scrypt_encrypt(data, out, self.maker.combined_passphrase(name), options)
        return Member(f"{name}.enc", out)

    def resealed(self, name: str, options: Sequence[str]) -> Members:
        """A chunk of the scene encrypted again, with other parameters."""
        new = self.sealed(name.removesuffix(".enc"), self.opened(name), options)
        return replace(self.members, name, new)

    def with_stream(self, path: str, *chunks: bytes) -> Members:
        """Other chunks instead of a file's, each with a right MAC."""
        old = self.chunks(path)
        index = self._index(old[0])
        new = [self.sealed(f"{path}.{i:03d}", data) for i, data in enumerate(chunks)]
        kept = [member for member in self.members if member.name not in old]
        return [*kept[:index], *new, *kept[index:]]

    def rechunk(self, path: str, count: int) -> None:
        """Cuts a file's stream into so many chunks, whatever its compressed length came to be."""
        stream = self.stream(path)
        size = -(-len(stream) // count)
        pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
        self.members = tuple(self.with_stream(path, *pieces))

    def shorten_metadata(self) -> None:
        """Without compression: qubes.xml in an archive that is not padded to a record."""
        text = self.files[METADATA]
        tar = header(METADATA.encode(), size=len(text)) + padded(text) + 2 * ZEROS
        self.members = tuple(self.with_inner(METADATA, tar))

    def stream(self, path: str) -> bytes:
        """A file's stream as the filter made it."""
        return b"".join(self.opened(name) for name in self.chunks(path))

    def opened(self, name: str) -> bytes:
        """A chunk's plaintext, by the real program."""
        secret = self.maker.combined_passphrase(name.removesuffix(".enc"))
        encrypted = str(get(self.members, name).path)
        return run(["scrypt", "dec", "-P", encrypted], stdin=secret + b"\n")

    def with_inner(self, path: str, archive: bytes) -> Members:
        """Another inner archive instead of a file's, compressed as the scene is."""
        return self.with_stream(path, self.compressed(archive))

    def compressed(self, data: bytes) -> bytes:
        """Data as they leave this backup's filter."""
        chosen = self.maker.compression_filter
        return data if chosen is None else run([chosen, "-c"], stdin=data)

    def header_copy(self, header: bytes) -> bytes:
        """`backup-header.hmac` for any header."""
        out = self._folder() / HEADER_COPY
        scrypt_encrypt(header, out, f"backup-header!{self.maker.passphrase}".encode())
        return out.read_bytes()

    def with_header(self, header: bytes) -> Members:
        """Another header, with the copy that proves it."""
        changed = replace(self.members, HEADER, header)
        return replace(changed, HEADER_COPY, self.header_copy(header))


def _met(lost: Mapping[str, str]) -> dict[str, str]:
    """Names of files lost to a limit, which are not known to be damaged."""
    return {name: "limit" if how == "damaged" else how for name, how in lost.items()}


def _below(path: str, names: Iterable[str]) -> bool:
    return any(path == name or path.startswith(f"{name}/") for name in names)
