"""`qbackup script`: prints the shell script that makes a backup's qubes again."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from qbackup.cli import output
from qbackup.cli.arguments import (
    add_backup,
    add_common,
    add_passphrase,
    folder,
    name_argument,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qbackup.archive.archive import BackupArchive
    from qbackup.archive.firewalls import Firewall
    from qbackup.cli.recreate import ChosenQubes

EXAMPLES = """\
  qbackup script BACKUP > make-qubes.sh      read the script, then run it in dom0
  qbackup script BACKUP work=work-old personal --restored /var/tmp/restored

a key is derived for each qube with a firewall, which can take seconds for each
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments and options to its parser."""
    add_backup(parser)
    parser.add_argument(
        "names",
        metavar="QUBE[=NEWNAME]",
        nargs="*",
        type=name_argument,
        help="a qube, and the name that it gets on the new Qubes (default: all, as they are)",
    )
    parser.add_argument(
        "--restored",
        metavar="DIR",
        type=folder,
        help="the folder with the restored files (default: named when the script is run)",
    )
    add_passphrase(parser)
    add_common(parser, json=False)


def run(options: argparse.Namespace) -> int:
    """Prints the script; returns the exit status."""
    from qbackup.cli.report import print_errors, print_warnings
    from qbackup.cli.unlocked import unlocked

    with unlocked(options) as archive:
        losses = _print_script(archive, options)
        print_warnings(archive.warnings)
        return print_errors(losses)


def _print_script(archive: BackupArchive, options: argparse.Namespace) -> Sequence[str]:
    """Prints the script; returns the faults of the backup, and the losses of the script.

    Raises:
        NotInBackup: a qube is asked for that is not in the backup; nothing was written.
        UsageError: a new name can't be used; nothing was written.
    """
    from qbackup.cli.recreate import choose, make_script
    from qbackup.cli.report import firewall_errors

    choice = choose(options.names, archive.known_qubes)
    wanted = {qube.name for qube in choice.qubes}
    with output.working("reading the firewalls", quiet=options.quiet):
        firewalls = archive.firewalls(wanted)
    archive.read_to_end()
    errors = [*archive.errors, *firewall_errors(firewalls)]
    if archive.errors:
        _cut_off(choice, firewalls)
    script = make_script(
        choice, firewalls, backup_id=archive.header.backup_id, restored=options.restored
    )
    _print_text(script.text)
    return [*errors, *script.losses]


def _print_text(text: str) -> None:
    """Prints the script as it is, on a terminal too: nothing in it does anything there."""
    if sys.stdout.isatty():
        output.print_styled(output.encodable(sys.stdout, text.rstrip("\n")))
    else:
        output.copier()(text.encode("utf-8"))


def _cut_off(choice: ChosenQubes, firewalls: dict[str, Firewall]) -> None:
    """Gives qubes without rules no network where the archive is broken: rules may be lost."""
    from qbackup.base.errors import Damaged
    from qbackup.base.names import display
    from qbackup.formats.metadata.firewall import FIREWALL_FILE

    for qube in choice.qubes:
        if qube.name not in firewalls:
            file = display(f"{qube.name}/{FIREWALL_FILE}")
            firewalls[qube.name] = Damaged("if there was one, it is lost", file=file)
