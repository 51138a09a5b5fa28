"""Parser of ``firewall.xml`` of every release → rules in the words of R4's ``qvm-firewall``.

R4 (``<firewall version="2">``) lists rules, each with named options. R2 and R3
(``<QubesFirewallRules>``) list exceptions from a policy; Qubes' own restorer translates them in
the same way. Facts: QubesOS/qubes-core-admin, ``qubes/firewall.py``;
QubesOS/qubes-core-admin-client, ``qubesadmin/backup/core2.py``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias

from qbackup.base.errors import Damaged, UnsupportedFormat
from qbackup.base.limits import Limits
from qbackup.base.names import display
from qbackup.formats.metadata.strict_xml import parse_xml

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

FIREWALL_FILE = "firewall.xml"
Rule: TypeAlias = Mapping[str, str]  # option → value, ``action`` among them

_ACCEPT, _DROP = "accept", "drop"


def parse_firewall(data: bytes, limits: Limits, *, file: str = FIREWALL_FILE) -> tuple[Rule, ...]:
    """Parses the rules, in their order. Qubes drops packets that no rule matches.

    Args:
        data: the document, verified.
        limits: `Limits.metadata` bounds its length, as that of ``qubes.xml``.
        file: its name, for errors.

    Raises:
        Damaged: the document is no XML, or a rule has no action.
        UnsupportedFormat: the document has an unknown root element or version.
        LimitExceeded: the document is longer, or has more elements, than allowed.
    """
    root = parse_xml(data, limits, file=file)
    version = root.get("version", "")
    if root.tag == "firewall" and version in ("", "2"):
        rules = tuple(_rules_4(root))
    elif root.tag == "QubesFirewallRules":
        rules = tuple(_rules_3(root, file))
    else:
        shown = f"<{display(str(root.tag))[:80]}> of version {display(version)[:20] or 'unknown'}"
        raise UnsupportedFormat(f"its root is {shown}, which is not known", file=file)
    if any(not rule.get("action") for rule in rules):
        raise Damaged("a rule has no action", file=file)
    return rules


def _rules_4(root: Element) -> Iterator[Rule]:
    for rule in root.iterfind("./rules/rule"):
        yield {
            option.get("name", ""): option.text or ""
            for option in rule.iterfind("./properties/property")
        }


def _rules_3(root: Element, file: str) -> Iterator[Rule]:
    policy = root.get("policy")
    if policy not in ("allow", "deny"):
        raise Damaged("its policy is neither allow nor deny", file=file)

    def action(name: str) -> str:
        return _ACCEPT if root.get(name, policy) == "allow" else _DROP

    yield {"action": action("dns"), "specialtarget": "dns"}
    yield {"action": action("icmp"), "proto": "icmp"}
    exception = _DROP if policy == "allow" else _ACCEPT
    for rule in root.iterfind("./rule"):
        yield {"action": exception, **_exception(rule)}
    yield {"action": action("policy")}


def _exception(rule: Element) -> dict[str, str]:
    options = {}
    address = rule.get("address")
    if address:
        options["dsthost"] = _host(address, rule.get("netmask"))
    port, to_port = rule.get("port"), rule.get("toport")
    proto = rule.get("proto") or ("tcp" if port else "")
    if proto and proto != "any":
        options["proto"] = proto
    if port:
        options["dstports"] = f"{port}-{to_port}" if to_port else port
    if rule.get("expire"):
        options["expire"] = rule.get("expire", "")
    return options


def _host(address: str, netmask: str | None) -> str:
    """Gives an address with the length of its network's prefix; a name unchanged."""
    try:
        bits = ipaddress.ip_address(address).max_prefixlen
    except ValueError:
        return address
    return f"{address}/{netmask if netmask is not None else bits}"
