"""qubes.xml as Qubes R2 and R3 write it into a backup: a `QubesVmCollection`, one element for each
qube, named after its class, everything else in attributes (QubesOS/qubes-core-admin at R3.2,
`core-modules/000QubesVm.py`).
"""

from __future__ import annotations

import uuid
import xml.etree.ElementTree as ET
from collections.abc import Sequence

from tests.maker.qubesxml import Domain

#: Class of R4 → the element that such a qube has, where the `Domain` names no other.
TAGS = {
    "AppVM": "QubesAppVm",
    "StandaloneVM": "QubesAppVm",
    "TemplateVM": "QubesTemplateVm",
    "DispVM": "QubesDisposableVm",
    "AdminVM": "QubesAdminVm",
}
FOLDERS = {"QubesTemplateVm": "vm-templates", "QubesTemplateHVm": "vm-templates"}
FOLDERS |= {"QubesNetVm": "servicevms", "QubesProxyVm": "servicevms"}
NO_QID = "none"


def collection_xml(domains: Sequence[Domain]) -> bytes:
    """The whole document. Templates and network qubes that are named but not among `domains` are
    added as known, not backed up.
    """
    domains = [*domains, *_missing(domains)]
    qids = {domain.name: str(domain.qid) for domain in domains}
    root = ET.Element("QubesVmCollection", updatevm="2", default_template="1", clockvm="2")
    for domain in domains:
        ET.SubElement(root, tag_of(domain), _attributes(domain, qids))
    document: str = ET.tostring(root, encoding="unicode")
    return b"<?xml version='1.0' encoding='UTF-8'?>\n" + document.encode() + b"\n"


def tag_of(domain: Domain) -> str:
    """The name of a qube's element."""
    return domain.tag or TAGS[domain.klass]


def folder_of(domain: Domain) -> str:
    """A qube's folder below /var/lib/qubes, which is its path in a backup that is not encrypted."""
    return f"{FOLDERS.get(tag_of(domain), 'appvms')}/{domain.name}"


def has_template(domain: Domain) -> bool:
    return domain.klass in ("AppVM", "DispVM")


def _attributes(domain: Domain, qids: dict[str, str]) -> dict[str, str]:
    attributes = {
        "qid": str(domain.qid),
        "name": domain.name,
        "uuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{domain.qid}.qubes.invalid")),
        "label": domain.label,
        "dir_path": f"/var/lib/qubes/{folder_of(domain)}",
        "template_qid": qids[domain.template or ""] if has_template(domain) else NO_QID,
        "uses_default_netvm": str(domain.netvm is None),
        "memory": "400",
        "vcpus": "2",
        "services": "{'meminfo-writer': True}",
        "pcidevs": "[]",
        "backup_content": str(domain.backup_path is not None),
        "backup_path": (domain.backup_path or "").rstrip("/"),
        "backup_size": str(domain.backup_size if domain.backup_path is not None else 0),
    }
    if domain.netvm is not None:
        attributes["netvm_qid"] = qids[domain.netvm] if domain.netvm else NO_QID
    return {**attributes, **domain.settings.attributes}


def _missing(domains: Sequence[Domain]) -> list[Domain]:
    known = {domain.name for domain in domains}
    named = {d.template: "QubesTemplateVm" for d in domains if d.template and has_template(d)}
    named |= {domain.netvm: "QubesNetVm" for domain in domains if domain.netvm}
    first_qid = max([100, *(domain.qid + 1 for domain in domains)])
    missing = [(name, tag) for name, tag in named.items() if name not in known]
    return [
        Domain(
            name=name,
            qid=first_qid + number,
            klass="TemplateVM" if tag == "QubesTemplateVm" else "StandaloneVM",
            label="black",
            template=None,
            netvm=None,
            volumes={},
            backup_path=None,
            backup_size=0,
            tag=tag,
        )
        for number, (name, tag) in enumerate(missing)
    ]
