"""Every exception that a caller can see.

All of them are QBackupError, which is deliberately not an OSError, EOFError or
ValueError: code that swallows those must not swallow the news that data is lost.
Each names the event, the file, and a remedy. Text from a backup is made printable
before it goes into a message.

The classes under QBackupError differ in the caller's next step, as the exit statuses
of the command line do.
"""

from __future__ import annotations

from qbackup.base.advice import ARCHIVE_DAMAGED, DAMAGED

TYPE_CHECKING = False  # type checkers know the name; loading `typing` for it takes time
if TYPE_CHECKING:
    from qbackup.base.report import Report


_RAISE = (
    "if you trust whoever made this backup, raise the limit: --limit {} (in the library:"
    " qbackup.Limits); if you don't, this may be damage or an attack"
)


def _short(value: int) -> str:
    """Writes a number for `--limit`: rounded up, and with a suffix where it is large."""
    for suffix, shift in (("T", 40), ("G", 30), ("M", 20)):
        rounded = -(-value >> shift)
        if rounded > 1 and (value >> shift >= 10 or value == rounded << shift):
            return f"{rounded}{suffix}"
    return str(value)


class QBackupError(Exception):
    """Base of all errors of this package.

    Attributes:
        reason: the event in one sentence, printable.
        advice: a remedy in one sentence; "" where the reason names it.
        file: the file of the backup, as QUBE/FILE or member path; or None.
        chunk: the member name of the chunk; or None.
        is_own_chunk: the chunk's key shows that it is of this backup.
    """

    advice: str = ""
    is_own_chunk = False

    def __init__(self, reason: str, *, file: str | None = None, chunk: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.file = file
        self.chunk = chunk

    def __str__(self) -> str:
        place = self.chunk or self.file
        return f"{place}: {self.reason}" if place else self.reason


class UsageError(QBackupError):
    """The call makes no sense: a wrong argument, or the wrong method for this file."""


class NotInBackup(UsageError):
    """A qube or file was asked for that this backup does not hold."""

    advice = "to see what is in it: qbackup list BACKUP"


class NotInImage(NotInBackup):
    """A path was asked for that is not in the image."""

    advice = "to see what is there, list the folder above with qbackup ls"


class AlreadyPassed(UsageError):
    """The file has already passed: a backup read from a pipe gives its files once, in order."""

    advice = "read the backup from a file instead of a pipe: files can then be read in any order"


class FolderArchive(UsageError):
    """The file is a folder, such as dom0's home, so it has entries() and no single stream."""

    advice = "restore it: qbackup restore BACKUP QUBE/FOLDER -o DIR"


class SymbolicLink(UsageError):
    """The file is a symbolic link, such as an icon of old backups: no content was stored for it."""

    advice = "to see the qube's other files: qbackup list BACKUP"


class Unlockable(QBackupError):
    """The backup could not be unlocked. Base of the two reasons below."""


KEY_MISFIT = (
    "the passphrase does not fit this backup. Use the one that was typed when the backup was"
    " made, not that of the disk; check Caps Lock and the keyboard layout"
)
# of formats 3 and 2, whose header has one HMAC for both
KEY_OR_HEADER_MISFIT = (
    "the passphrase does not fit this backup, or its header was altered: in this format the two"
    " look the same. Use the passphrase that was typed when the backup was made, not that of the"
    " disk; check Caps Lock and the keyboard layout"
)


class WrongPassphrase(Unlockable):
    """The passphrase does not fit the backup's header."""

    advice = (
        "if you are sure of the passphrase, the beginning of the backup may be damaged, which"
        " looks the same: try another copy of the backup, or --salvage, which can tell the two"
        " apart"
    )


class HeaderAltered(Unlockable):
    """The header's authenticated copy is damaged, missing, or differs from the header."""

    advice = "try another copy of the backup; --salvage uses only what the passphrase proves"


class BackupIdUnknown(HeaderAltered):
    """Neither the header nor its copy says the backup's id, without which no key can be derived."""

    advice = (
        "if you know the id, name it: --backup-id ID; else search for it: --backup-id-window"
        " 60,1000-4000 tries a minute on each side of the time in the file's name, and these"
        " process numbers; each try costs as much as the key of a chunk"
    )


class Unreadable(QBackupError):
    """This program can't read the backup, or there is none. Base of the reasons below."""


class NotABackup(Unreadable):
    """The input is no Qubes backup."""


class UnsupportedFormat(Unreadable):
    """The backup needs a version, filter or algorithm that this program does not have."""


class PartitionUnreadable(UnsupportedFormat):
    """A path of an image is in a partition that can't be read: encrypted, or no ext4."""

    advice = (
        "restore the image, and open it on a system that knows what is in there; other partitions"
        " are shown with --partition N"
    )


class LimitExceeded(Unreadable):
    """Untrusted input asks for more than `qbackup.Limits` allows.

    Nothing is known to be damaged: the same input is read when the limit is raised.

    Attributes:
        limit: the name of the field of Limits.
        needed: the least value of the field that lets this pass; None where that is not known.
    """

    advice = _RAISE.format("NAME=VALUE")

    def __init__(
        self,
        reason: str,
        *,
        limit: str,
        needed: int | None = None,
        file: str | None = None,
        chunk: str | None = None,
    ) -> None:
        super().__init__(reason, file=file, chunk=chunk)
        self.limit = limit
        self.needed = needed
        value = "VALUE" if needed is None else _short(needed)
        self.advice = _RAISE.format(f"{limit}={value}")


class Damaged(QBackupError):
    """A part of the backup was altered, cut off, lost or put in disorder."""

    advice = DAMAGED


class ChunkDamaged(Damaged):
    """One chunk fails its checks: nothing of it can be believed.

    Attributes:
        is_unproven: the bytes that were read, or the key that was derived, fit no MAC. Another
            read or derivation would give the same, unless this machine or the drive made a mistake.
    """

    def __init__(
        self,
        reason: str,
        *,
        file: str | None = None,
        chunk: str | None = None,
        is_unproven: bool = False,
    ) -> None:
        super().__init__(reason, file=file, chunk=chunk)
        self.is_unproven = is_unproven


class ChunkMissing(Damaged):
    """A chunk of a file is not in the archive."""


class ArchiveDamaged(Damaged):
    """The outer archive is cut off or broken, so what followed can't be found."""

    advice = ARCHIVE_DAMAGED


class Incomplete(QBackupError):
    """A restore or verification ended, but not all requested files are there and whole.

    Attributes:
        report: the `Report` with the outcome for each file.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(report.summary())
        self.report = report


class MachineError(QBackupError):
    """This machine failed: disk full, no permission, a drive that can't be read, no memory.

    Attributes:
        report: the outcome until then, for a failure during a restore; else None.
    """

    report: Report | None = None


class ConnectionBroken(MachineError):
    """The connection broke over which the backup comes, once and in order.

    Nothing is known of the bytes behind that place, so no file is called damaged for it.
    """

    advice = (
        "start the same command again; files that are done are kept. If the connection breaks again"
        " and again, copy the backup to this machine first"
    )


class NotEnoughMemory(MachineError):
    """A key can't be derived in this machine's memory. The chunk's file is lost, not the others."""

    advice = (
        "close other programs and run the same command again with --jobs 1; a restore keeps the"
        " files that are finished"
    )


class Interrupted(QBackupError):
    """Work was asked for from an object that has been closed."""


# Errors after which one file is lost and the run goes on.
FILE_ERRORS = (Damaged, LimitExceeded, NotEnoughMemory)


def without_traceback(error: QBackupError) -> QBackupError:
    """Frees the frames that an error came through, which hold whole chunks; returns the error."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
