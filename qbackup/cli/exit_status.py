"""The exit statuses.

==============  ==================================================================
exit status     meaning
==============  ==================================================================
0               everything asked for is there and verified
1               done, but something is damaged, missing or in the way
2               wrong usage, or a qube that is not in the backup
3               could not be unlocked: wrong passphrase, or an altered header
4               not a backup that this program can read
5               this machine failed
130, 143, 141   interrupted, terminated, output closed
==============  ==================================================================
"""

from __future__ import annotations

from qbackup.base.errors import (
    Damaged,
    Incomplete,
    PartitionUnreadable,
    QBackupError,
    Unlockable,
    Unreadable,
    UsageError,
)

EXIT_OK, EXIT_INCOMPLETE, EXIT_USAGE, EXIT_LOCKED, EXIT_UNREADABLE, EXIT_MACHINE = range(6)
EXIT_INTERRUPTED, EXIT_OUTPUT_CLOSED = 130, 141
EXIT_SIGNAL = 128  # and the signal's number: 143 for SIGTERM


def exit_status(error: QBackupError) -> int:
    """Maps an error to its exit status."""
    for kind, status in (
        (Incomplete, EXIT_INCOMPLETE),
        (Damaged, EXIT_INCOMPLETE),
        (PartitionUnreadable, EXIT_INCOMPLETE),
        (UsageError, EXIT_USAGE),
        (Unlockable, EXIT_LOCKED),
        (Unreadable, EXIT_UNREADABLE),
    ):
        if isinstance(error, kind):
            return status
    return EXIT_MACHINE
