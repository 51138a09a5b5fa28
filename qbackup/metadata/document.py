"""The whole document: its root says which Qubes wrote it."""

from __future__ import annotations

from qbackup.errors import Damaged, LimitExceeded
from qbackup.limits import Limits
from qbackup.metadata import release3, release4
from qbackup.metadata.record import METADATA_PATH, QubeRecord
from qbackup.metadata.strictxml import parse_xml
from qbackup.names import display

_READERS = {reader.ROOT_TAG: reader.parse for reader in (release4, release3)}


def parse_qubes_xml(
    data: bytes, limits: Limits, *, root_tag: str | None = None
) -> tuple[QubeRecord, ...]:
    """The qubes that the backup says it holds, in its order.

    Args:
        data: the document.
        limits: bounds on it.
        root_tag: the one that the backup's format has; None: any that is known. The document of
            another Qubes would give names to no file, and nothing would be missed.

    Raises:
        Damaged: no XML, a DOCTYPE, or not the structure of any Qubes.
        LimitExceeded: longer, or with more qubes, than allowed.
    """
    root = parse_xml(data, limits)
    reader = _READERS.get(str(root.tag))
    if reader is None or root_tag not in (None, root.tag):
        known = "neither " + " nor ".join(f"<{tag}>" for tag in _READERS)
        known = known if root_tag is None else f"not <{root_tag}>"
        raise Damaged(f"its root is <{display(str(root.tag))[:80]}>, {known}", file=METADATA_PATH)
    records = []
    for count, record in enumerate(reader(root)):
        if count >= limits.qubes:
            raise LimitExceeded("qubes.xml has too many domains", limit="qubes", file=METADATA_PATH)
        if record is not None:
            records.append(record)
    _check_distinct(records)
    return tuple(records)


def _check_distinct(records: list[QubeRecord]) -> None:
    for values in ([r.name for r in records], [r.backup_path for r in records]):
        if len(set(values)) < len(values):
            raise Damaged("two qubes share a name or a backup-path", file=METADATA_PATH)
