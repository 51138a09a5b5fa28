"""Parser of the whole document. Its root element decides which release's parser is used."""

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
    """Parses the qubes that are in the backup according to ``qubes.xml``, in its order.

    Args:
        data: the document.
        limits: bounds on its length and the number of qubes.
        root_tag: root element in the backup's format; None: any that is known. Without this check,
            the document of another release could be accepted: it would name none of the backup's
            files, and no file would be reported missing.

    Raises:
        Damaged: the document is no XML, has a DOCTYPE, or has not the structure of any release.
        LimitExceeded: the document is longer, or has more qubes, than allowed.
    """
    root, reader = _root(data, limits, root_tag)
    found = _bounded(reader.parse(root), limits)
    records = [record for record in found if record is not None]
    _check_distinct(records)
    return tuple(records)


def parse_known_qubes(
    data: bytes, limits: Limits, *, root_tag: str | None = None
) -> tuple[KnownQube, ...]:
    """Parses every qube that the document names, in its order, with its settings.

    Arguments and errors are those of `parse_qubes_xml`. If several qubes share a name, the one that
    is in the backup counts, or else the first one.
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
    """Parses the document; gives its root, and the module that reads the elements below."""
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
