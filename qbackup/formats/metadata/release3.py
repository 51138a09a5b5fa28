"""``<QubesVmCollection>``: the qubes.xml of Qubes R2 and R3.

The document has one element for each qube, named after its class, with everything in attributes;
other qubes are referred to by their ``qid``. The list of required files is not stored, but follows
from the class. Facts: QubesOS/qubes-core-admin at R2 and R3.2, ``core-modules/000QubesVm.py``
(attributes) and ``core/backup.py``, backup_prepare (files); QubesOS/qubes-core-admin-client
``qubesadmin/backup/core2.py`` (classes).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from qbackup.base.errors import Damaged
from qbackup.base.names import METADATA_PATH
from qbackup.formats.metadata.record import ADMIN_CLASS, DOM0_NAME, NO_LABEL, QubeRecord, parse_size
from qbackup.formats.metadata.settings import KnownQube
from qbackup.formats.metadata.settings3 import read_settings

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

ROOT_TAG = "QubesVmCollection"

_ADMIN_TAG = "QubesAdminVm"
_DISPOSABLE_TAG = "QubesDisposableVm"
_NETWORK_TAG = "QubesNetVm"  # a qube with the hardware of the network, so it has no netvm
_TEMPLATE_TAGS = ("QubesTemplateVm", "QubesTemplateHVm")
_WHOLE_FOLDER = "."  # a template is stored as its own folder
_PRIVATE_IMAGE = "private.img"
_ROOT_IMAGE = "root.img"


def parse(root: Element) -> Iterator[QubeRecord | None]:
    """Gives a record for each qube, None for one that is not in the backup.

    R2 leaves dom0 out, though its home may be in the backup; so dom0 then gets a record that is
    not listed.

    Raises:
        Damaged: a qube that is in the backup has no name or no path.
    """
    names = {element.get("qid", ""): element.get("name", "") for element in root}
    for element in root:
        yield _parse_element(element, names)
    if root.find(_ADMIN_TAG) is None:
        yield _unlisted_dom0()


def known(root: Element) -> Iterator[KnownQube]:
    """Gives every qube that the document names, in the backup or not, with its settings."""
    names = {element.get("qid", ""): element.get("name", "") for element in root}
    for element in root:
        in_backup = element.get("backup_content") == "True"
        record = _describe(element, names)
        if not in_backup:
            record = replace(record, size=None, backup_path="", required=())
        if record.name:
            settings = read_settings(element, record, lambda qid: _referred(qid, names))
            yield KnownQube(record=record, in_backup=in_backup, settings=settings)


def _parse_element(element: Element, names: dict[str, str]) -> QubeRecord | None:
    if element.get("backup_content") != "True":
        return None
    record = _describe(element, names)
    if not record.name or not record.backup_path:
        raise Damaged("a qube in the backup has no name or no backup_path", file=METADATA_PATH)
    return record


def _describe(element: Element, names: dict[str, str]) -> QubeRecord:
    """Reads an element; the record has no name or no path where the element has none."""
    klass = _klass(element)
    path = element.get("backup_path", "").rstrip("/")
    return QubeRecord(
        name=DOM0_NAME if klass == ADMIN_CLASS else element.get("name", ""),
        klass=klass,
        label=element.get("label", NO_LABEL),
        template=_referred(element.get("template_qid"), names),
        netvm=_netvm(element, names),
        size=parse_size(element.get("backup_size", "")),
        backup_path=path,
        required=_required(element, klass, path),
    )


def _unlisted_dom0() -> QubeRecord:
    return QubeRecord(
        name=DOM0_NAME,
        klass=ADMIN_CLASS,
        label=NO_LABEL,
        template=None,
        netvm=None,
        size=None,
        backup_path="",
        required=(),
    )


def _klass(element: Element) -> str:
    """Gives the class that R4 has for such a qube; an unknown kind counts as App or Standalone."""
    if element.tag == _ADMIN_TAG:
        return ADMIN_CLASS
    if element.tag in _TEMPLATE_TAGS:
        return "TemplateVM"
    if element.tag == _DISPOSABLE_TAG:
        return "DispVM"
    return "AppVM" if _is_reference(element.get("template_qid")) else "StandaloneVM"


def _is_reference(qid: str | None) -> bool:
    return bool(qid) and str(qid).lower() != "none"


def _referred(qid: str | None, names: dict[str, str]) -> str | None:
    """Gives the name of the qube with this qid; the qid if there is no such qube; None for none."""
    if qid is None or not _is_reference(qid):
        return None
    return names.get(qid) or qid


def _netvm(element: Element, names: dict[str, str]) -> str | None:
    """Gives the value for `QubeRecord.netvm`."""
    if element.tag == _NETWORK_TAG:
        return ""
    if element.get("uses_default_netvm", "True") == "True":
        return None
    return _referred(element.get("netvm_qid"), names) or ""


def _required(element: Element, klass: str, path: str) -> tuple[str, ...]:
    if klass == ADMIN_CLASS:
        return (path.rpartition("/")[2],)
    if klass == "TemplateVM":
        return (_WHOLE_FOLDER,)
    if _is_reference(element.get("template_qid")):
        return (_PRIVATE_IMAGE,)
    return (_PRIVATE_IMAGE, _ROOT_IMAGE)
