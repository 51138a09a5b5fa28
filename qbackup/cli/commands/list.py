"""`qbackup list`: the qubes of a backup, their files, and how they were set up."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

from qbackup.cli import output
from qbackup.cli.arguments import add_backup, add_common, add_passphrase

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qbackup.archive.archive import BackupArchive
    from qbackup.archive.firewalls import Firewall
    from qbackup.archive.qube import Qube
    from qbackup.cli.documents import Document
    from qbackup.formats.metadata import Device

EXAMPLES = """\
  qbackup list BACKUP                        asks for the passphrase
  qbackup list BACKUP -p FILE --json         for programs; derives one more key for each firewall
  qbackup list BACKUP --all                  also the qubes that were not backed up
  qbackup list - < BACKUP                    from a pipe
"""

_NOT_IN_BACKUP = "NOT IN THIS BACKUP"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments and options to its parser."""
    add_backup(parser)
    parser.add_argument(
        "--all",
        action="store_true",
        help="also list qubes that the backup names but does not hold",
    )
    add_passphrase(parser)
    add_common(parser, json=True)


def run(options: argparse.Namespace) -> int:
    """Prints the qubes; returns the exit status."""
    from qbackup.cli.documents import to_json
    from qbackup.cli.report import print_errors, print_warnings
    from qbackup.cli.unlocked import unlocked

    with unlocked(options) as archive:
        qubes = archive.known_qubes if options.all else archive.qubes
        firewalls: Mapping[str, Firewall] = {}
        if options.json:
            with output.working("reading the firewalls", quiet=options.quiet):
                firewalls = archive.firewalls()
        archive.read_to_end()
        print_warnings(archive.warnings)
        if options.json:
            output.print_result(to_json(_document(archive, qubes, firewalls)))
        else:
            _print_table(_rows(qubes))
        return print_errors(_errors(archive, qubes, firewalls))


def _errors(
    archive: BackupArchive, qubes: Sequence[Qube], firewalls: Mapping[str, Firewall]
) -> list[str]:
    """Errors of the archive, missing files, and firewall rules that can't be read."""
    from qbackup.cli.report import firewall_errors

    missing = any(_missing_files(qube) for qube in qubes)
    files = ["files are missing from this backup"] if missing else []
    return [*archive.errors, *files, *firewall_errors(firewalls)]


def _missing_files(qube: Qube) -> list[str]:
    """The files that should be there of a qube and are not; ``*`` when nothing is."""
    if not qube.in_backup:
        return []
    names = {_file_name(file.name) for file in qube.files}
    missing = [name for name in qube.required if name not in names]
    return missing or ([] if names else ["*"])


def _file_name(name: str) -> str:
    return name.partition("/")[2]


# The JSON document


def _document(
    archive: BackupArchive, qubes: Sequence[Qube], firewalls: Mapping[str, Firewall]
) -> Document:
    from qbackup.cli.documents import header_document, with_errors

    document: Document = {
        "header": header_document(archive.header),
        "qubes": [_qube_document(qube, firewalls.get(qube.name)) for qube in qubes],
        "warnings": list(archive.warnings),
    }
    return with_errors(document, _errors(archive, qubes, firewalls))


def _qube_document(qube: Qube, firewall: Firewall | None) -> Document:
    from qbackup.base.names import json_name

    return {
        "name": qube.name,
        "class": qube.klass,
        "label": qube.label,
        "template": qube.template,
        "netvm": qube.netvm,
        "size": qube.size,
        "files": [
            {
                **json_name(_file_name(file.name)),
                "chunks": file.chunk_count,
                "stored_size": file.stored_size,
            }
            for file in qube.files
        ],
        "missing": _missing_files(qube),
        **_settings_document(qube, firewall),
    }


def _settings_document(qube: Qube, firewall: Firewall | None) -> Document:
    """The part of a qube's document that says how it was set up.

    Args:
        qube: the qube.
        firewall: its rules, or why they can't be had; None where it has none.
    """
    from qbackup.base.errors import QBackupError

    document: Document = {
        "in_backup": qube.in_backup,
        "properties": dict(qube.properties),
        "features": dict(qube.features),
        "tags": list(qube.tags),
        "services": dict(qube.services),
        "devices": [_device_document(device) for device in qube.devices],
        "firewall": None,
    }
    if isinstance(firewall, QBackupError):
        document["firewall_error"] = str(firewall)
    elif firewall is not None:
        document["firewall"] = [dict(rule) for rule in firewall]
    if qube.settings.unreadable:
        document["unreadable"] = list(qube.settings.unreadable)
    return document


def _device_document(device: Device) -> Document:
    return {
        "class": device.klass,
        "backend": device.backend,
        "id": device.ident,
        "identity": device.identity,
        "mode": device.mode,
        "options": dict(device.options),
    }


# The table


def _rows(qubes: Sequence[Qube]) -> list[tuple[str, ...]]:
    """The cells of the table, made visible, the first row as heads."""
    from qbackup.base.names import display

    rows = [("QUBE", "CLASS", "LABEL", "TEMPLATE", "SIZE", "FILES")]
    for qube in qubes:
        files = [_file_name(file.name) for file in qube.files]
        files += [f"{name} IS MISSING" for name in _missing_files(qube)]
        files += [] if qube.in_backup else [_NOT_IN_BACKUP]
        rows.append(
            (
                qube.name,
                qube.klass or "?",
                qube.label or "?",
                qube.template or "-",
                _size_text(qube),
                ", ".join(files),
            )
        )
    return [tuple(map(display, row)) for row in rows]


def _size_text(qube: Qube) -> str:
    from qbackup.cli.progress import human_size

    if qube.size is not None:
        return human_size(qube.size)
    return "?" if qube.in_backup else "-"


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    if output.is_pretty(sys.stdout):
        from qbackup.cli.pretty import qubes_table

        output.print_styled(qubes_table(sys.stdout, rows))
    else:
        output.print_result(_plain_table(rows))


def _plain_table(rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side, the first row as their heads."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
