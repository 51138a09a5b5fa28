"""`QubeRecord`: one qube of ``qubes.xml``, independent of the release of Qubes."""

from __future__ import annotations

from dataclasses import dataclass

DOM0_NAME = "dom0"
DOM0_FOLDER = "dom0-home"
ADMIN_CLASS = "AdminVM"
NO_LABEL = ""


@dataclass(frozen=True, kw_only=True)
class QubeRecord:
    """A qube that is in the backup.

    Args:
        name: of the qube; ``dom0`` for the administrative one.
        klass: AppVM, TemplateVM, StandaloneVM, DispVM or AdminVM.
        label: name of its colour, ``""`` where none is given.
        template: name of its template; None without one.
        netvm: name of its network qube; None where none is named, which means the default
            one; ``""`` for no network.
        size: disk use when the backup was made, in bytes: an estimate; None if not given.
        backup_path: the folder of its files in the archive, no slash at the end; of dom0, the path
            of its home. ``""`` for dom0 where qubes.xml does not list it.
        required: names of the files that must be there.
    """

    name: str
    klass: str
    label: str
    template: str | None
    netvm: str | None
    size: int | None
    backup_path: str
    required: tuple[str, ...]

    @property
    def is_dom0(self) -> bool:
        """True for dom0, whose backup is one folder archive."""
        return self.klass == ADMIN_CLASS

    @property
    def is_listed(self) -> bool:
        """True if the qube is in the backup according to ``qubes.xml``.

        R2 leaves dom0 out of ``qubes.xml``, even if its home is in the backup.
        """
        return bool(self.backup_path)


def parse_size(text: str) -> int | None:
    """Parses a backup's estimate of a qube's size; None where the text is no number."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None
