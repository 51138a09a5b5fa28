"""Documents for `list --json` of how qubes were set up; the mark that only `list --all` shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qbackup.archive.firewalls import Firewall
from qbackup.archive.qube import Qube
from qbackup.base.errors import QBackupError
from qbackup.formats.metadata import Device

NOT_IN_BACKUP = "NOT IN THIS BACKUP"


def settings_document(qube: Qube, firewall: Firewall | None) -> dict[str, Any]:
    """The part of a qube's document that says how it was set up.

    Args:
        qube: the qube.
        firewall: its rules, or why they can't be had; None where it has none.
    """
    document: dict[str, Any] = {
        "in_backup": qube.in_backup,
        "properties": dict(qube.properties),
        "features": dict(qube.features),
        "tags": list(qube.tags),
        "services": dict(qube.services),
        "devices": [_device(device) for device in qube.devices],
        "firewall": None,
    }
    if isinstance(firewall, QBackupError):
        document["firewall_error"] = str(firewall)
    elif firewall is not None:
        document["firewall"] = [dict(rule) for rule in firewall]
    if qube.settings.unreadable:
        document["unreadable"] = list(qube.settings.unreadable)
    return document


def _device(device: Device) -> dict[str, Any]:
    return {
        "class": device.klass,
        "backend": device.backend,
        "id": device.ident,
        "identity": device.identity,
        "mode": device.mode,
        "options": dict(device.options),
    }


def firewall_errors(firewalls: Mapping[str, Firewall]) -> list[str]:
    """Reasons why rules can't be had, one sentence for each qube."""
    return [str(error) for error in firewalls.values() if isinstance(error, QBackupError)]
