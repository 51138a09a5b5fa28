"""``qubes.xml`` → `QubeRecord`: what a backup says about its qubes.

The bytes are authenticated before they come here. They are still bounded, and a DOCTYPE is
refused: no entity of any kind is needed, and each kind has cost somebody memory. Fact:
QubesOS/qubes-core-admin, ``qubes/app.py`` and ``qubes/vm/__init__.py``, how they store.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qbackup.errors import Damaged, LimitExceeded
from qbackup.limits import Limits
from qbackup.names import display

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element, XMLParser

METADATA_PATH = "qubes.xml"
DOM0_NAME = "dom0"
_DOM0_FOLDER = "dom0-home"
_ADMIN_CLASS = "AdminVM"
_NO_LABEL = ""
_ELEMENT_SIZE = 48  # bytes of text; Qubes spends 60 and more. In memory it takes 80 to 260
_PIECE_SIZE = 64 * 1024
_LONG_TAG = re.compile(rb"<[^<]{1048576}")  # its attributes are all held before they are counted


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
        backup_path: the folder of its files in the archive, no slash at the end.
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
        """Whether this is dom0, whose backup is one folder archive."""
        return self.klass == _ADMIN_CLASS


def parse_qubes_xml(data: bytes, limits: Limits) -> tuple[QubeRecord, ...]:
    """The qubes that the backup says it holds, in its order.

    Raises:
        Damaged: no XML, a DOCTYPE, or not the structure of Qubes R4.
        LimitExceeded: longer, or with more qubes, than allowed.
    """
    if len(data) > limits.metadata:
        raise LimitExceeded("qubes.xml is too long", limit="metadata", file=METADATA_PATH)
    root = _parse_xml(data, limits)
    if root.tag != "qubes":
        raise Damaged(
            f"its root is <{display(str(root.tag))[:80]}>, not <qubes>", file=METADATA_PATH
        )
    labels = {
        element.get("id", ""): (element.text or "").strip()
        for element in root.iterfind("./labels/label")
    }
    records = []
    for count, domain in enumerate(root.iterfind("./domains/domain")):
        if count >= limits.qubes:
            raise LimitExceeded("qubes.xml has too many domains", limit="qubes", file=METADATA_PATH)
        record = _parse_domain(domain, labels)
        if record is not None:
            records.append(record)
    _check_distinct(records)
    return tuple(records)


def _parse_xml(data: bytes, limits: Limits) -> Element:
    from xml.etree.ElementTree import ParseError, TreeBuilder, XMLParser

    allowed = limits.metadata // _ELEMENT_SIZE

    class StrictBuilder(TreeBuilder):
        elements = 0

        def start(self, tag: str, attributes: dict[str, str], /) -> Element:
            self.elements += 1 + len(attributes) // 2  # which take half as much, or less
            if self.elements > allowed:
                raise LimitExceeded(
                    "qubes.xml has too many elements and attributes",
                    limit="metadata",
                    file=METADATA_PATH,
                )
            return super().start(tag, attributes)

        def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
            raise Damaged("it has a DOCTYPE, which qubes.xml never has", file=METADATA_PATH)

    if _LONG_TAG.search(data):
        raise LimitExceeded("qubes.xml has an endless tag", limit="metadata", file=METADATA_PATH)
    parser: XMLParser[Any] = XMLParser(target=StrictBuilder())  # noqa: S314
    try:
        for start in range(0, len(data), _PIECE_SIZE):  # an error above ends a piece, no sooner
            parser.feed(data[start : start + _PIECE_SIZE])
        root: Element = parser.close()
    except (ParseError, ValueError, LookupError) as error:
        raise Damaged(f"it is no well-formed XML ({error})", file=METADATA_PATH) from error
    return root


def _parse_domain(domain: Element, labels: dict[str, str]) -> QubeRecord | None:
    """One domain; None when it is not in the backup."""
    features = dict(_named_texts(domain, "./features/feature"))
    if not features.get("backup-content"):
        return None
    properties = dict(_named_texts(domain, "./properties/property"))
    klass = domain.get("class", "")
    is_dom0 = klass == _ADMIN_CLASS
    path = features.get("backup-path", "").rstrip("/")
    label = properties.get("label", _NO_LABEL)
    name = DOM0_NAME if is_dom0 else properties.get("name", "")
    if not name or not path:
        raise Damaged("a qube in the backup has no name or no backup-path", file=METADATA_PATH)
    return QubeRecord(
        name=name,
        klass=klass,
        label=labels.get(label, labels.get(f"label-{label}", label)),
        template=properties.get("template") or None,
        netvm=properties.get("netvm"),
        size=_size(features.get("backup-size", "")),
        backup_path=path,
        required=(path.rpartition("/")[2],) if is_dom0 else tuple(_required_images(domain)),
    )


def _named_texts(domain: Element, path: str) -> Iterator[tuple[str, str]]:
    for element in domain.iterfind(path):
        yield element.get("name", ""), (element.get("ref") or element.text or "").strip()


def _size(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None


def _required_images(domain: Element) -> Iterator[str]:
    for volume in domain.iterfind("./volume-config/volume"):
        if volume.get("save_on_stop") == "True" and volume.get("name"):
            yield f"{volume.get('name')}.img"


def _check_distinct(records: list[QubeRecord]) -> None:
    for values in ([r.name for r in records], [r.backup_path for r in records]):
        if len(set(values)) < len(values):
            raise Damaged("two qubes share a name or a backup-path", file=METADATA_PATH)


class QubeTable:
    """Which qube a file of the archive belongs to.

    Without records (``qubes.xml`` is lost) each folder of the archive stands for a qube.

    Args:
        records: from ``qubes.xml``; None if it is lost.
        paths: of the archive's files, to make up records from their folders then.
    """

    def __init__(
        self, records: tuple[QubeRecord, ...] | None, paths: Iterable[str] | None = None
    ) -> None:
        self.by_path = records is None
        self.records = records or tuple(_folder_records(paths or ()))
        self._folders = {record.backup_path: record for record in self.records}

    def owner(self, path: str) -> tuple[str, str] | None:
        """(qube, file) of a path in the archive, compared by component; None if nobody's."""
        if self.by_path:
            return _owner_by_path(path)
        record = self._folders.get(path)
        if record is not None and record.is_dom0:
            return record.name, path.rpartition("/")[2]
        folder = path
        while "/" in folder:
            folder = folder.rpartition("/")[0]
            record = self._folders.get(folder)
            if record is not None and not record.is_dom0:
                return record.name, path[len(folder) + 1 :]
        return None

    def path_of(self, qube: str, file: str) -> str | None:
        """The path in the archive of a qube's file; None if there is no such qube."""
        for record in self.records:
            if record.name == qube:
                folder = record.backup_path
                if record.is_dom0:
                    folder = folder.rpartition("/")[0]
                return f"{folder}/{file}" if folder else file
        return None


def _folder_records(paths: Iterable[str]) -> Iterator[QubeRecord]:
    """What is known of qubes by their folders: a name."""
    folders = dict.fromkeys(path.partition("/")[0] for path in paths if "/" in path)
    for folder in folders:
        yield QubeRecord(
            name=DOM0_NAME if folder == _DOM0_FOLDER else folder,
            klass="",
            label=_NO_LABEL,
            template=None,
            netvm=None,
            size=None,
            backup_path=folder,
            required=(),
        )


def _owner_by_path(path: str) -> tuple[str, str] | None:
    folder, slash, file = path.partition("/")
    if not slash:
        return None
    return (DOM0_NAME if folder == _DOM0_FOLDER else folder), file
