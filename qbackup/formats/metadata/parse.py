"""The whole document: its root says which Qubes wrote it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from qbackup.base.errors import Damaged, LimitExceeded
from qbackup.base.limits import Limits
from qbackup.base.names import METADATA_PATH, display
from qbackup.formats.metadata import release3, release4
from qbackup.formats.metadata.record import QubeRecord
from qbackup.formats.metadata.settings import KnownQube
from qbackup.formats.metadata.strict_xml import parse_xml

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_T = TypeVar("_T")
_READERS = {reader.ROOT_TAG: reader for reader in (release4, release3)}


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
    root, reader = _root(data, limits, root_tag)
    found = _bounded(reader.parse(root), limits)
    records = [record for record in found if record is not None]
    _check_distinct(records)
    return tuple(records)


def parse_known_qubes(
    data: bytes, limits: Limits, *, root_tag: str | None = None
) -> tuple[KnownQube, ...]:
    """Every qube that the document names, in its order, with how it was set up.

    Arguments and errors are those of `parse_qubes_xml`. Of two qubes that are not in the backup and
    share a name, or share that of one that is, the first one counts, or the one that is.
    """
    root, reader = _root(data, limits, root_tag)
    found = list(_bounded(reader.known(root), limits))
    taken = {qube.record.name for qube in found if qube.in_backup}
    chosen = []
    for qube in found:
        if qube.in_backup or qube.record.name not in taken:
            taken.add(qube.record.name)
            chosen.append(qube)
    return tuple(chosen)


def _root(data: bytes, limits: Limits, root_tag: str | None) -> tuple[Element, ModuleType]:
    """The document's root, and the module that reads what is below."""
    root = parse_xml(data, limits)
    reader = _READERS.get(str(root.tag))
    if reader is None or root_tag not in (None, root.tag):
        known = "neither " + " nor ".join(f"<{tag}>" for tag in _READERS)
        known = known if root_tag is None else f"not <{root_tag}>"
        raise Damaged(f"its root is <{display(str(root.tag))[:80]}>, {known}", file=METADATA_PATH)
    return root, reader


def _bounded(found: Iterable[_T], limits: Limits) -> Iterator[_T]:
    for count, each in enumerate(found):
        if count >= limits.qubes:
            raise LimitExceeded("qubes.xml has too many domains", limit="qubes", file=METADATA_PATH)
        yield each


def _check_distinct(records: list[QubeRecord]) -> None:
    for values in ([r.name for r in records], [r.backup_path for r in records]):
        if len(set(values)) < len(values):
            raise Damaged("two qubes share a name or a backup-path", file=METADATA_PATH)
