"""A shell script that makes the qubes of a backup again, on a new Qubes.

All values come from ``qubes.xml`` and each qube's ``firewall.xml``, which an enemy may have
written: the script is made to be read before it is run. Each command stands on one line,
each value is quoted, nothing from the backup is ever more than a value or a comment, and qubes that
are there already are left alone. Sources: QubesOS/qubes-core-admin-client, ``qubesadmin/tools/``
(arguments of the programs) and ``qubesadmin/backup/restore.py`` (order of the steps).
"""

from qbackup.cli.recreate.choice import ChosenQubes, choose
from qbackup.cli.recreate.document import Script, make_script

__all__ = ["ChosenQubes", "Script", "choose", "make_script"]
