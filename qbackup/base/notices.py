"""Warnings on members of an archive, counted by kind where there are many; kinds of faults."""

from __future__ import annotations

from qbackup.base.names import display


class MemberWarning(str):
    """Warning on one member of the archive, as a sentence.

    Anybody who can write to the storage can plant a million members, so a list of warnings keeps
    the first ones of a kind, and counts the others.

    Args:
        member: name of the member, as in the archive.
        kind: the rest of the sentence, the same for all members of a kind.
    """

    kind: str

    def __new__(cls, member: str, kind: str) -> MemberWarning:
        """Makes the sentence; the member's name is made printable."""
        warning = super().__new__(cls, f"{display(member)}: {kind}")
        warning.kind = kind
        return warning

    def behind(self, text: str) -> MemberWarning:
        """Gives a warning of the same kind with a text in front, such as the name of a copy."""
        warning = str.__new__(MemberWarning, f"{text}: {self}")
        warning.kind = self.kind
        return warning


class HeaderReplaced(str):
    """Fault of a backup's header, in whose place something proven was used.

    No file can be lost by it.
    """


class OtherBackup(str):
    """Fault of a file that holds parts of another backup too.

    No file of the backup that is read can be lost by it.
    """
