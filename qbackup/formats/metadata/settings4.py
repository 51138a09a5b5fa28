"""Setup of a qube of R4: one ``<domain>`` → `QubeSettings`.

The spelling differs between releases: services were elements of their own before they became
features; a device has its options in elements, and its mode in ``required`` or in ``mode``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from qbackup.formats.metadata.settings import (
    BACKUP_FEATURES,
    OFF,
    ON,
    SERVICE_PREFIX,
    Device,
    QubeSettings,
)

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_NO = ("false", "no", "0", "off")


def read_settings(domain: Element, label: str) -> QubeSettings:
    """Reads the setup of one qube. Texts are taken exactly, white space too.

    Args:
        domain: the qube's element.
        label: name of its label, which the property may hold as a number.
    """
    properties = dict(_texts(domain, "./properties/property"))
    if "label" in properties:
        properties["label"] = label
    features = dict(_services(domain))
    features.update(_texts(domain, "./features/feature"))
    return QubeSettings(
        properties=properties,
        features={k: v for k, v in features.items() if k not in BACKUP_FEATURES},
        tags=tuple(dict.fromkeys(tag.get("name", "") for tag in domain.iterfind("./tags/tag"))),
        devices=tuple(_devices(domain)),
    )


def _texts(parent: Element, path: str) -> Iterator[tuple[str, str]]:
    for element in parent.iterfind(path):
        yield element.get("name", ""), element.get("ref") or element.text or ""


def _services(domain: Element) -> Iterator[tuple[str, str]]:
    for element in domain.iterfind("./services/service"):
        enabled = element.get("enabled", "true").lower() not in _NO
        yield f"{SERVICE_PREFIX}{element.text or ''}", ON if enabled else OFF


def _devices(domain: Element) -> Iterator[Device]:
    for group in domain.iterfind("./devices"):
        for element in group.iterfind("./device"):
            yield Device(
                klass=group.get("class", ""),
                backend=element.get("backend-domain", ""),
                ident=element.get("id") or element.text or "",
                identity=element.get("identity", ""),
                mode=_mode(element.attrib),
                options=dict(_texts(element, "./option")),
            )


def _mode(attributes: Mapping[str, str]) -> str:
    if "mode" in attributes or "required" not in attributes:
        return attributes.get("mode", "")
    return "auto-attach" if attributes["required"].lower() in _NO else "required"
