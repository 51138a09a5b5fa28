"""`/etc/fstab`: bytes → mounts of a system. See fstab(5) and mount(8).

The owner of the disk wrote this text, so a line that makes no sense is passed over, and there are
bounds on the length and on the lines that count.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass

from qbackup.base.names import decode

SIZE_LIMIT = 1 << 20  # a real one has a few KiB
ENTRIES_LIMIT = 1000  # a real one has ten; later lines do not count
_PATH_LIMIT = 4096  # PATH_MAX
_DEFAULTS = (b"", b"", b"auto", b"defaults")  # of fields that a line leaves out
_ESCAPE = re.compile(rb"\\([0-3][0-7]{2})")
_UDEV_ESCAPE = re.compile(rb"\\x([0-9a-fA-F]{2})")
_DEVICE = re.compile(r"/dev/(?P<disk>.*?(?<=\d)p|.*?-part|.*?[^\d])(?P<number>[1-9]\d{0,3})")
_TAGS = ("UUID", "LABEL", "PARTUUID", "PARTLABEL")
_BY_TAG = {f"/dev/disk/by-{tag.lower()}/": tag for tag in _TAGS}
#: Kinds of file systems that are on no disk.
_VIRTUAL = frozenset(
    {
        *("autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts"),
        *("devtmpfs", "efivarfs", "fusectl", "hugetlbfs", "ignore", "mqueue", "none", "overlay"),
        *("proc", "pstore", "ramfs", "rootfs", "securityfs", "selinuxfs", "swap", "sysfs"),
        *("tmpfs", "tracefs", "usbfs", "xenfs"),
    }
)


@dataclass(frozen=True, slots=True)
class MountSource:
    """Source of a mount.

    Args:
        tag: ``UUID``, ``LABEL``, ``PARTUUID``, ``PARTLABEL``; ``DEVICE``, a partition by its disk
            and number; ``OTHER`` for all else.
        value: of the tag; of a device its disk, ``sda`` or ``nvme0n1p`` without the number.
        number: of a device's partition; else 0.
    """

    tag: str
    value: str
    number: int = 0


@dataclass(frozen=True, slots=True)
class MountLine:
    """One line, with one mount.

    Args:
        source: text of the first field.
        path: of the mount, absolute and without ``.``, ``..`` and doubled slashes.
        kind: of file system.
        options: of the mount.
    """

    source: str
    path: str
    kind: str
    options: tuple[str, ...]

    @property
    def is_bind(self) -> bool:
        """True if a folder of the tree is shown at a second place."""
        return any(option in ("bind", "rbind") for option in self.options)

    @property
    def subvolume(self) -> str:
        """Name of the part of the file system that is mounted; "" for all of it."""
        for option in self.options:
            name, _, value = option.partition("=")
            if name in ("subvol", "X-mount.subdir"):
                return value
        return ""


def parse_fstab(untrusted_data: bytes) -> list[MountLine]:
    """Parses the lines with mounts from a disk or a network, in their order."""
    entries = []
    for entry in _entries(untrusted_data[:SIZE_LIMIT]):
        entries.append(entry)
        if len(entries) == ENTRIES_LIMIT:
            break
    return entries


def _entries(data: bytes) -> Iterator[MountLine]:
    for line in data.split(b"\n"):
        fields = line.split()
        if len(fields) < 2 or fields[0].startswith(b"#"):
            continue
        fields += _DEFAULTS[len(fields) :]
        source, path, kind, options = (decode(_unescaped(field)) for field in fields[:4])
        if not path.startswith("/") or len(fields[1]) > _PATH_LIMIT or "\0" in source + path:
            continue
        entry = MountLine(source, _normal(path), kind, tuple(options.split(",")))
        if entry.is_bind or not _is_virtual(entry):
            yield entry


def _is_virtual(entry: MountLine) -> bool:
    return entry.kind in _VIRTUAL or entry.source in _VIRTUAL


def _unescaped(field: bytes) -> bytes:
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), field)


def _normal(path: str) -> str:
    return "/" + posixpath.normpath(path).lstrip("/")


def parse_source(text: str) -> MountSource:
    """Parses the first field."""
    tag, equals, value = text.partition("=")
    if equals and tag in _TAGS:
        return MountSource(tag, _unquoted(value))
    text = _unquoted(text)
    for prefix, tag in _BY_TAG.items():
        if text.startswith(prefix):
            return MountSource(tag, _from_udev(text.removeprefix(prefix)))
    match = _DEVICE.fullmatch(text)
    if match:
        return MountSource("DEVICE", match["disk"], int(match["number"]))
    return MountSource("OTHER", text)


def _unquoted(text: str) -> str:
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if is_quoted else text


def _from_udev(text: str) -> str:
    """Decodes a name in `/dev/disk`, where udev writes e.g. ``\\x20`` for a blank."""
    data = text.encode("utf-8", "surrogateescape")
    return decode(_UDEV_ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), data))
