"""`QubeSettings`: a qube's setup, which a restore of its files does not need.

Facts: QubesOS/qubes-core-admin-client, ``qubesadmin/backup/core3.py`` and ``core2.py``, where
Qubes' own restorer reads ``qubes.xml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from qbackup.formats.metadata.record import QubeRecord

SERVICE_PREFIX = "service."
ON, OFF = "1", ""  # values of a feature for yes and no
BACKUP_FEATURES = ("backup-content", "backup-path", "backup-size")  # the backup's own notes

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device that is assigned to a qube permanently.

    Args:
        klass: its kind: ``pci``, ``block``, ``usb``, ``mic``.
        backend: name of the qube that provides the device.
        ident: name of the device in that qube: ``00_14.0``, ``sda1``.
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
    """A qube's setup, in the words of R4, independent of the release that wrote it.

    Args:
        properties: name to value, of those that are not the default. A reference to a qube is its
            name, ``""`` for none.
        features: name to value, services too; ``""`` means no. Not those of the backup itself.
        tags: its tags.
        devices: that are assigned to it permanently.
        unreadable: names of attributes that were there and made no sense.
    """

    properties: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    features: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    tags: tuple[str, ...] = ()
    devices: tuple[Device, ...] = ()
    unreadable: tuple[str, ...] = ()

    @property
    def services(self) -> Mapping[str, str]:
        """Features that are services, name to value."""
        return {
            name.removeprefix(SERVICE_PREFIX): value
            for name, value in self.features.items()
            if name.startswith(SERVICE_PREFIX)
        }


@dataclass(frozen=True, kw_only=True)
class KnownQube:
    """A qube that ``qubes.xml`` knows, in the backup or not.

    Args:
        record: its record; without a path where the qube is not in the backup.
        in_backup: its files are in the backup.
        settings: its setup.
    """

    record: QubeRecord
    in_backup: bool
    settings: QubeSettings
