"""`QubeSettings`: a qube's setup, which a restore of its files does not need.

Facts: QubesOS/qubes-core-admin-client, ``qubesadmin/backup/core3.py`` and ``core2.py``: what Qubes'
own restorer reads of ``qubes.xml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from qbackup.formats.metadata.record import QubeRecord

SERVICE_PREFIX = "service."
ON, OFF = "1", ""  # how a feature says yes and no
BACKUP_FEATURES = ("backup-content", "backup-path", "backup-size")  # the backup's own notes

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device that is assigned to a qube for good.

    Args:
        klass: its kind: ``pci``, ``block``, ``usb``, ``mic``.
        backend: name of the qube that has it.
        ident: of the device there: ``00_14.0``, ``sda1``.
        identity: fingerprint of the device itself, R4.3; ``""`` where none is given.
        mode: ``required``, ``auto-attach`` or ``ask-to-attach``; ``""`` where none is given.
        options: name to value.
    """

    klass: str
    backend: str
    ident: str
    identity: str = ""
    mode: str = ""
    options: Mapping[str, str] = field(default_factory=lambda: _NOTHING)


@dataclass(frozen=True, kw_only=True)
class QubeSettings:
    """A qube's setup, in the words of R4 whichever Qubes wrote it down.

    Args:
        properties: name to value, of those that are not the default. A reference to a qube is its
            name, ``""`` for none.
        features: name to value, services too; ``""`` means no. Not those of the backup itself.
        tags: its tags.
        devices: what is assigned to it for good.
        unreadable: names of parts that were there and made no sense.
    """

    properties: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    features: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    tags: tuple[str, ...] = ()
    devices: tuple[Device, ...] = ()
    unreadable: tuple[str, ...] = ()

    @property
    def services(self) -> Mapping[str, str]:
        """Name to value of the features that are services."""
        return {
            name.removeprefix(SERVICE_PREFIX): value
            for name, value in self.features.items()
            if name.startswith(SERVICE_PREFIX)
        }


@dataclass(frozen=True, kw_only=True)
class KnownQube:
    """A qube that ``qubes.xml`` knows, in the backup or not.

    Args:
        record: what the backup needs of it; without a path where it is not in the backup.
        in_backup: whether its files are in the backup.
        settings: its setup.
    """

    record: QubeRecord
    in_backup: bool
    settings: QubeSettings
