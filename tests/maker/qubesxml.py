"""qubes.xml as Qubes R4 writes it into a backup (elements and attributes as in
QubesOS/qubes-core-admin `qubes/app.py`).
"""

from __future__ import annotations

import uuid
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

#: Names and colours of the labels, in the order of their ids: `label-1` and so on.
LABELS = {
    "red": "0xcc0000",
    "orange": "0xf57900",
    "yellow": "0xedd400",
    "green": "0x73d216",
    "gray": "0x555753",
    "blue": "0x3465a4",
    "purple": "0x75507b",
    "black": "0x000000",
}
#: Classes that have a template; it is left out for the others.
BASED_ON_A_TEMPLATE = ("AppVM", "DispVM")
ROOT_BYTES = 20 << 30
PRIVATE_BYTES = 2 << 30


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A qube's setup, as Qubes writes it down. `devices`: (class, attributes, options) of
    each; `attributes`: of the element in R2 and R3, which have nothing else.
    """

    properties: Mapping[str, str] = field(default_factory=dict)
    features: Mapping[str, str] = field(default_factory=dict)
    tags: Sequence[str] = ()
    devices: Sequence[tuple[str, Mapping[str, str], Mapping[str, str]]] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Domain:
    """What qubes.xml says of one qube; `qid` 0 is dom0. `backup_path` None: known, but not in this
    backup. `tag`: the element's name in R2 and R3, where `klass` does not say it.
    """

    name: str
    qid: int
    klass: str
    label: str
    template: str | None
    netvm: str | None
    volumes: Mapping[str, bool]
    backup_path: str | None
    backup_size: int
    tag: str | None = None
    settings: Settings = Settings()


def qubes_xml(domains: Sequence[Domain]) -> bytes:
    """The whole document; templates that are named but not among `domains` are added as known, not
    backed up.
    """
    root = ET.Element("qubes")
    labels = ET.SubElement(root, "labels")
    for number, (name, color) in enumerate(LABELS.items(), start=1):
        ET.SubElement(labels, "label", id=f"label-{number}", color=color).text = name
    pools = ET.SubElement(root, "pools")
    ET.SubElement(
        pools, "pool", name="varlibqubes", driver="file-reflink", dir_path="/var/lib/qubes"
    )
    ET.SubElement(pools, "pool", name="vm-pool", driver="lvm_thin", volume_group="qubes_dom0")
    settings = ET.SubElement(root, "properties")
    _property(settings, "default_netvm", "sys-firewall")
    _property(settings, "default_template", "fedora-40")
    tree = ET.SubElement(root, "domains")
    for domain in [*domains, *_missing_templates(domains)]:
        _add_domain(tree, domain)
    ET.indent(root)
    document: str = ET.tostring(root, encoding="unicode")
    document = document.replace("\r", "&#13;")  # as lxml writes it
    return document.encode() + b"\n"


def _missing_templates(domains: Sequence[Domain]) -> list[Domain]:
    known = {domain.name for domain in domains}
    based = (domain for domain in domains if domain.klass in BASED_ON_A_TEMPLATE)
    names = dict.fromkeys(domain.template for domain in based if domain.template is not None)
    first_qid = max([100, *(domain.qid + 1 for domain in domains)])
    return [
        Domain(
            name=name,
            qid=qid,
            klass="TemplateVM",
            label="black",
            template=None,
            netvm="",
            volumes={"root": True, "private": True},
            backup_path=None,
            backup_size=0,
        )
        for qid, name in enumerate((name for name in names if name not in known), start=first_qid)
    ]


def _add_domain(tree: ET.Element, domain: Domain) -> None:
    element = ET.SubElement(tree, "domain", {"id": f"domain-{domain.qid}", "class": domain.klass})
    _add_properties(ET.SubElement(element, "properties"), domain)
    _add_features(ET.SubElement(element, "features"), domain)
    for name in dict.fromkeys(["pci", "block", *(d[0] for d in domain.settings.devices)]):
        _add_devices(ET.SubElement(element, "devices", {"class": name}), domain)
    tags = ET.SubElement(element, "tags")
    for tag in domain.settings.tags:
        ET.SubElement(tags, "tag", name=tag)
    if domain.qid:
        ET.SubElement(tags, "tag", name="created-by-dom0")
        _add_volumes(ET.SubElement(element, "volume-config"), domain)


def _add_devices(group: ET.Element, domain: Domain) -> None:
    for name, attributes, options in domain.settings.devices:
        if name == group.get("class"):
            device = ET.SubElement(group, "device", dict(attributes))
            for option, value in options.items():
                ET.SubElement(device, "option", name=option).text = value


def _add_properties(element: ET.Element, domain: Domain) -> None:
    names = list(LABELS)
    label = domain.label
    _property(element, "label", f"label-{names.index(label) + 1}" if label in names else label)
    if domain.qid == 0:  # dom0 has no name property
        return
    _property(element, "name", domain.name)
    _property(element, "qid", str(domain.qid))
    _property(element, "uuid", str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{domain.qid}.qubes.invalid")))
    if domain.template is not None and domain.klass in BASED_ON_A_TEMPLATE:
        _property(element, "template", domain.template)
    if domain.netvm is not None:
        _property(element, "netvm", domain.netvm)
    for name, value in domain.settings.properties.items():
        _property(element, name, value)


def _add_features(element: ET.Element, domain: Domain) -> None:
    """Qubes first sets `backup-content` false, that is empty, for every qube; then the three for
    those backed up.
    """
    for name, value in domain.settings.features.items():
        ET.SubElement(element, "feature", name=name).text = value
    included = domain.backup_path is not None
    ET.SubElement(element, "feature", name="backup-content").text = "1" if included else ""
    if domain.backup_path is not None:
        ET.SubElement(element, "feature", name="backup-path").text = domain.backup_path
        ET.SubElement(element, "feature", name="backup-size").text = str(domain.backup_size)


def _add_volumes(element: ET.Element, domain: Domain) -> None:
    """`domain.volumes` says which are saved; the others that every qube has are added as Qubes has
    them.
    """
    for name in dict.fromkeys(["root", *domain.volumes, "volatile", "kernel"]):
        vid = f"qubes_dom0/vm-{domain.name}-{name}"
        size = PRIVATE_BYTES if name == "private" else ROOT_BYTES
        attributes = {"name": name, "pool": "vm-pool", "vid": vid, "size": str(size)}
        if domain.volumes.get(name, False):
            attributes |= {"rw": "True", "save_on_stop": "True", "revisions_to_keep": "1"}
        elif name == "root" and domain.klass in BASED_ON_A_TEMPLATE:
            source = f"qubes_dom0/vm-{domain.template}-root"
            attributes |= {"snap_on_start": "True", "source": source}
        elif name == "kernel":
            attributes = {"name": name, "pool": "linux-kernel", "vid": "6.6.42-1"}
        else:
            attributes |= {"rw": "True"}
        ET.SubElement(element, "volume", attributes)


def _property(element: ET.Element, name: str, value: str) -> None:
    ET.SubElement(element, "property", name=name).text = value
