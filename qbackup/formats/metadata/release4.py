"""``<qubes>``: the qubes.xml of Qubes R4.

Fact: QubesOS/qubes-core-admin, the writing code in ``qubes/app.py`` and ``qubes/vm/__init__.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from qbackup.base.errors import Damaged
from qbackup.base.names import METADATA_PATH
from qbackup.formats.metadata.record import ADMIN_CLASS, DOM0_NAME, NO_LABEL, QubeRecord, parse_size
from qbackup.formats.metadata.settings import KnownQube
from qbackup.formats.metadata.settings4 import read_settings

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

ROOT_TAG = "qubes"


def parse(root: Element) -> Iterator[QubeRecord | None]:
    """Gives a record for each domain, None for one that is not in the backup.

    Raises:
        Damaged: a domain that is in the backup has no name or no path.
    """
    labels = _labels(root)
    for domain in root.iterfind("./domains/domain"):
        yield _parse_domain(domain, labels)


def known(root: Element) -> Iterator[KnownQube]:
    """Gives every qube that the document names, in the backup or not, with its settings."""
    labels = _labels(root)
    for domain in root.iterfind("./domains/domain"):
        in_backup = _is_in_backup(domain)
        record = _describe(domain, labels)
        if not in_backup:
            record = replace(record, size=None, backup_path="", required=())
        if record.name:
            settings = read_settings(domain, record.label)
            yield KnownQube(record=record, in_backup=in_backup, settings=settings)


def _labels(root: Element) -> dict[str, str]:
    return {
        element.get("id", ""): (element.text or "").strip()
        for element in root.iterfind("./labels/label")
    }


def _is_in_backup(domain: Element) -> bool:
    return bool(dict(_named_texts(domain, "./features/feature")).get("backup-content"))


def _parse_domain(domain: Element, labels: dict[str, str]) -> QubeRecord | None:
    """Reads one domain; None when it is not in the backup."""
    if not _is_in_backup(domain):
        return None
    record = _describe(domain, labels)
    if not record.name or not record.backup_path:
        raise Damaged("a qube in the backup has no name or no backup-path", file=METADATA_PATH)
    return record


def _describe(domain: Element, labels: dict[str, str]) -> QubeRecord:
    """Reads a domain; the record has no name or no path where the domain has none."""
    features = dict(_named_texts(domain, "./features/feature"))
    properties = dict(_named_texts(domain, "./properties/property"))
    klass = domain.get("class", "")
    is_dom0 = klass == ADMIN_CLASS
    path = features.get("backup-path", "").rstrip("/")
    label = properties.get("label", NO_LABEL)
    return QubeRecord(
        name=DOM0_NAME if is_dom0 else properties.get("name", ""),
        klass=klass,
        label=labels.get(label, labels.get(f"label-{label}", label)),
        template=properties.get("template") or None,
        netvm=properties.get("netvm"),
        size=parse_size(features.get("backup-size", "")),
        backup_path=path,
        required=(path.rpartition("/")[2],) if is_dom0 else tuple(_required_images(domain)),
    )


def _named_texts(domain: Element, path: str) -> Iterator[tuple[str, str]]:
    for element in domain.iterfind(path):
        yield element.get("name", ""), (element.get("ref") or element.text or "").strip()


def _required_images(domain: Element) -> Iterator[str]:
    for volume in domain.iterfind("./volume-config/volume"):
        if volume.get("save_on_stop") == "True" and volume.get("name"):
            yield f"{volume.get('name')}.img"
