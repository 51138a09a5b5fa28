"""`qbackup script`: the script that makes a backup's qubes again, on standard output."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from qbackup.archive.archive import BackupArchive
from qbackup.archive.firewalls import Firewall
from qbackup.base.errors import Damaged
from qbackup.base.names import display
from qbackup.cli import output
from qbackup.cli.known import firewall_errors
from qbackup.cli.recreate import ChosenQubes, choose, make_script
from qbackup.cli.show import archive_errors
from qbackup.formats.metadata.firewall import FIREWALL_FILE


def write_script(archive: BackupArchive, options: argparse.Namespace) -> Sequence[str]:
    """Writes the script; returns what is wrong with the backup, or not in the script.

    Raises:
        NotInBackup: a qube is asked for that is not in the backup; nothing was written.
        UsageError: a new name can't be used; nothing was written.
    """
    choice = choose(options.names, archive.known_qubes)
    wanted = {qube.name for qube in choice.qubes}
    with output.working("reading the firewalls", quiet=options.quiet):
        firewalls = archive.firewalls(wanted)
    archive.catalog.drain()
    errors = [*archive_errors(archive), *firewall_errors(firewalls)]
    if archive_errors(archive):
        _close(choice, firewalls)
    script = make_script(
        choice, firewalls, backup_id=archive.header.backup_id, restored=options.restored
    )
    _show(script.text)
    return [*errors, *script.losses]


def _show(text: str) -> None:
    """On a terminal the script is as it is: nothing in it does anything there."""
    if sys.stdout.isatty():
        output.show_styled(output.encodable(sys.stdout, text.rstrip("\n")))
    else:
        output.copier()(text.encode("utf-8"))


def _close(choice: ChosenQubes, firewalls: dict[str, Firewall]) -> None:
    """Takes no qube for one without rules where the archive is broken: they may be lost."""
    for qube in choice.qubes:
        if qube.name not in firewalls:
            file = display(f"{qube.name}/{FIREWALL_FILE}")
            firewalls[qube.name] = Damaged("if there was one, it is lost", file=file)
