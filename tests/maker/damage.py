"""What an accident or an attacker does to a backup: to a list of members before it is assembled,
or to the file.

Functions on members return a new list and never touch the files of the old one, so that one built
backup serves many tests. Functions on a path change that file.
"""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.maker.collected import Member

RECORD_BYTES = 10_240


def get(members: Sequence[Member], name: str) -> Member:
    """The first member of that name. Raises `KeyError`."""
    for member in members:
        if member.name == name:
            return member
    raise KeyError(name)


def replace(members: Sequence[Member], name: str, content: Member | Path | bytes) -> list[Member]:
    """Other content under the same name: another backup's member, a file, or bytes."""
    old = get(members, name)
    new = _new_file(old)
    if isinstance(content, bytes):
        new.path.write_bytes(content)
    else:
        shutil.copyfile(content.path if isinstance(content, Member) else content, new.path)
    return [new if member is old else member for member in members]


def flip_byte(members: Sequence[Member], name: str, offset: int) -> list[Member]:
    """One byte of a member inverted; a negative offset counts from its end."""
    changed = replace(members, name, get(members, name))
    flip_file_byte(get(changed, name).path, offset)
    return changed


def extend(members: Sequence[Member], name: str, data: bytes) -> list[Member]:
    """Bytes appended to a member."""
    changed = replace(members, name, get(members, name))
    append_bytes(get(changed, name).path, data)
    return changed


def cut(members: Sequence[Member], name: str, size: int) -> list[Member]:
    """A member cut to `size` bytes; a negative size is what is taken away."""
    changed = replace(members, name, get(members, name))
    truncate(get(changed, name).path, size)
    return changed


def drop(members: Sequence[Member], *names: str) -> list[Member]:
    """Without the members of those names. Raises `KeyError` if one is not there."""
    for name in names:
        get(members, name)
    return [member for member in members if member.name not in names]


def swap(members: Sequence[Member], first: str, second: str) -> list[Member]:
    """The contents of two members exchanged; names and order stay."""
    changed = replace(members, first, get(members, second))
    return replace(changed, second, get(members, first))


def rename(members: Sequence[Member], old: str, new: str) -> list[Member]:
    """The same content under another name, in the same place."""
    chosen = get(members, old)
    return [Member(new, chosen.path) if member is chosen else member for member in members]


def append_bytes(path: Path, data: bytes) -> Path:
    """Bytes appended to a file."""
    with path.open("ab") as file:
        file.write(data)
    return path


def truncate(path: Path, size: int) -> Path:
    """A file cut to `size` bytes; a negative size is what is taken away."""
    with path.open("r+b") as file:
        file.truncate(size if size >= 0 else path.stat().st_size + size)
    return path


def flip_file_byte(path: Path, offset: int) -> Path:
    """One byte of a file inverted; a negative offset counts from its end."""
    with path.open("r+b") as file:
        file.seek(offset, io.SEEK_SET if offset >= 0 else io.SEEK_END)
        (byte,) = file.read(1)
        file.seek(-1, io.SEEK_CUR)
        file.write(bytes([byte ^ 0xFF]))
    return path


def forged_archive(
    name: str, data: bytes = b"", *, typeflag: bytes = tarfile.REGTYPE, link: str = ""
) -> bytes:
    """A complete archive of one member with any name and type, `../` and links too, which GNU tar
    would not write.
    """
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = typeflag, link, len(data)
    header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    archive = header + data + bytes(-len(data) % tarfile.BLOCKSIZE) + bytes(2 * tarfile.BLOCKSIZE)
    return archive + bytes(-len(archive) % RECORD_BYTES)


def _new_file(member: Member) -> Member:
    """A place for another version of a member, beside the folder that it stands in."""
    beside = member.path.parent if member.directory is None else member.directory.parent
    path = Path(tempfile.mkdtemp(prefix="damaged-", dir=beside)) / member.name
    path.parent.mkdir(parents=True, exist_ok=True)
    return Member(member.name, path)
