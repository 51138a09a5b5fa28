"""Setup of a qube of R2 or R3: its attributes → `QubeSettings`, in the words of R4.

The translation is that of Qubes' own restorer (QubesOS/qubes-core-admin-client,
``qubesadmin/backup/core2.py``), except for services: all but one become the feature
``service.NAME``, while that restorer translates only two of them so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from qbackup.formats.metadata.literals import NotALiteral, parse_dict, parse_list
from qbackup.formats.metadata.record import QubeRecord
from qbackup.formats.metadata.settings import OFF, ON, SERVICE_PREFIX, Device, QubeSettings

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

DISPOSABLE_NETVM = "dispvm_netvm"  # R4 has no such property

_DEFAULTS = {  # of R3: such a value was not chosen by the user, so it is left out
    "include_in_backups": "True",
    "qrexec_timeout": "60",
    "vcpus": "2",
    "memory": "400",
    "maxmem": "4000",
    "default_user": "user",
    "debug": "False",
    "mac": "",
    "autostart": "False",
}
_NETWORK_TAGS = ("QubesNetVm", "QubesProxyVm")
_NO_SERVICES = {"qubes-update-check": "check-updates"}  # features that are no services in R4
_BACKEND = "dom0"


def read_settings(
    element: Element, record: QubeRecord, named: Callable[[str | None], str | None]
) -> QubeSettings:
    """Reads the setup of one qube.

    Args:
        element: the qube's.
        record: the qube's, as already read.
        named: gives the name of the qube with a qid; None for none.
    """
    unreadable: list[str] = []
    features = _features(element, unreadable)
    devices = tuple(_devices(element, unreadable))
    return QubeSettings(
        properties=dict(_properties(element, record, named)),
        features=features,
        devices=devices,
        unreadable=tuple(unreadable),
    )


def _properties(
    element: Element, record: QubeRecord, named: Callable[[str | None], str | None]
) -> Iterator[tuple[str, str]]:
    for name in ("name", "qid", "uuid", "label"):
        if element.get(name):
            yield name, element.get(name, "")
    if record.template is not None:
        yield "template", record.template
    if record.is_dom0:
        return
    for name, default in _DEFAULTS.items():
        value = element.get(name)
        if value and value not in (default, "None"):
            yield name, value
    for name in ("kernel", "kernelopts"):
        if element.get(f"uses_default_{name}", "True").lower() != "true":
            value = element.get(name, "")
            yield name, "" if value.lower() == "none" else value
    yield "virt_mode", "hvm" if "HVm" in element.tag else "pv"
    if element.tag in _NETWORK_TAGS:
        yield "provides_network", "True"
    if record.netvm is not None:
        yield "netvm", record.netvm
    if element.get("uses_default_dispvm_netvm", "True") != "True":
        yield DISPOSABLE_NETVM, named(element.get("dispvm_netvm_qid")) or ""


def _features(element: Element, unreadable: list[str]) -> Mapping[str, str]:
    features = {"internal": ON} if element.get("internal") == "True" else {}
    try:
        services = parse_dict(element.get("services") or "{}")
    except NotALiteral:
        unreadable.append("services")
        return features
    for name, value in services.items():
        feature = _NO_SERVICES.get(name, f"{SERVICE_PREFIX}{name}")
        features[feature] = {True: ON, False: OFF}[value] if isinstance(value, bool) else value
    return features


def _devices(element: Element, unreadable: list[str]) -> Iterator[Device]:
    try:
        idents = parse_list(element.get("pcidevs") or "[]")
    except NotALiteral:
        unreadable.append("pcidevs")
        return
    strict = element.get("pci_strictreset", "True") == "True"
    for ident in idents:
        yield Device(
            klass="pci",
            backend=_BACKEND,
            ident=ident.replace(":", "_"),
            mode="required",
            options={} if strict else {"no-strict-reset": "True"},
        )
