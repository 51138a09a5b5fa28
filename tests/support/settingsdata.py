"""Qubes whose settings are hard to carry over, and what must come of each: shared by the recipes of
the vectors and by the tests that read them.
"""

from __future__ import annotations

from pathlib import Path

from tests.maker import BackupMaker, Format3Maker, Settings, make_sparse

PASSPHRASE = "correct horse battery staple"

#: Texts that a shell could misread, by what is odd about them.
ODD = {
    "single quotes": "it's 'quoted'",
    "double quotes": 'say "hello"',
    "spaces": "  two  spaces  ",
    "substitution": "$(touch stolen) ${HOME} $HOME",
    "backticks": "`touch stolen`",
    "newlines": "first\nsecond\n\n",
    "a command": "x\ntouch stolen #",
    "end of a comment": "#\n*/ '''",
    "dashes": "--delete",
    "dash": "-",
    "backslashes": "a\\b\\\\c\\n\\0101\\c",
    "percent": "100%s %% %d",
    "unicode": "Żółw 🔑 日本",
    "bidirectional": "abc\u202edcba",
    "zero width": "a\u200bb\ufeff",
    "C1": "a\u0085b\u009b31m\u0081\u0082\u0083\u0084\u0086\u0087\u0088",
    "tab": "a\tb\r\nc\r",
    "globs": "* ? [a-z] ~ ~root !! {a,b}",
    "operators": "; | & && || < > >> ( ) { }",
    "assignment": "failed=0",
    "empty": "",
    "blank": " ",
    "delete": "a\x7fb",
}
ODD_NAMES = {f"name {value}": value for value in ODD.values()}

PROPERTIES = {
    "memory": "800",
    "maxmem": "0",
    "kernel": "",
    "kernelopts": "nopat i915.alpha='1 2' $(reboot)",
    "default_user": "user",
    "provides_network": "True",
    "installed_by_rpm": "True",
    "default_dispvm": "dvm",
    "management_dispvm": "",
    "guivm": "sys-gui",
    **ODD_NAMES,
}
FEATURES = {
    "service.cups": "1",
    "service.network-manager": "",
    "gui-default-allow-fullscreen": "1",
    **ODD_NAMES,
}
TAGS = tuple(ODD_NAMES)
PCI = ("pci", {"backend-domain": "dom0", "id": "00_14.0"}, {"no-strict-reset": "True"})
DEVICES: tuple[tuple[str, dict[str, str], dict[str, str]], ...] = (
    PCI,
    (
        "block",
        {
            "backend-domain": "sys-usb",
            "id": "sda1",
            "mode": "ask-to-attach",
            "identity": "0781:5567:ABC:b08",
        },
        {"read-only": "yes", "odd '$(x)": "a\nb"},
    ),
    ("usb", {"backend-domain": "sys-usb", "id": "1-2", "required": "no"}, {}),
)
RULES = (
    {"action": "accept", "specialtarget": "dns"},
    {"action": "drop", "dsthost": "192.168.0.0/16", "comment": "not the house"},
    {"action": "accept", "proto": "tcp", "dstports": "443", "expire": "1900000000"},
    *({"action": "accept", "comment": text} for text in ODD.values() if "=" not in text),
    {"action": "drop"},
)

R3_ATTRIBUTES = {
    "memory": "600",
    "maxmem": "4000",
    "vcpus": "4",
    "kernel": "4.1.13-9",
    "uses_default_kernel": "False",
    "kernelopts": "nopat '$(reboot)'\nx",
    "uses_default_kernelopts": "False",
    "include_in_backups": "False",
    "autostart": "True",
    "default_user": "it's me $(x)",
    "mac": "None",
    "internal": "True",
    "services": """{'cups': False, 'meminfo-writer': True, u'qubes-update-check': True,"""
    """ "it's $(x)\\n": True, 'n\\xc3\\xa4me': False}""",
    "pcidevs": "['00:1a.0', '03:00.0']",
    "pci_strictreset": "False",
    "uses_default_dispvm_netvm": "False",
    "dispvm_netvm_qid": "none",
}
R3_PROPERTIES = {
    "memory": "600",
    "vcpus": "4",
    "kernel": "4.1.13-9",
    "kernelopts": "nopat '$(reboot)'\nx",
    "include_in_backups": "False",
    "autostart": "True",
    "default_user": "it's me $(x)",
    "virt_mode": "pv",
    "provides_network": "True",
}
R3_FEATURES = {
    "internal": "1",
    "service.cups": "",
    "service.meminfo-writer": "1",
    "check-updates": "1",
    "service.it's $(x)\n": "1",
    "service.näme": "",
}
R3_FIREWALL = b"""<QubesFirewallRules policy="deny" dns="allow" icmp="deny" yumProxy="allow">
  <rule address="10.1.2.0" netmask="24" proto="udp" port="53" toport="60"/>
  <rule address="example.org" netmask="32" port="443"/>
  <rule address="0.0.0.0" netmask="0" proto="any" expire="1900000000"/>
</QubesFirewallRules>
"""
R3_RULES = (
    {"action": "accept", "specialtarget": "dns"},
    {"action": "drop", "proto": "icmp"},
    {"action": "accept", "dsthost": "10.1.2.0/24", "proto": "udp", "dstports": "53-60"},
    {"action": "accept", "dsthost": "example.org", "proto": "tcp", "dstports": "443"},
    {"action": "accept", "dsthost": "0.0.0.0/0", "expire": "1900000000"},
    {"action": "drop"},
)


def firewall_xml(rules: tuple[dict[str, str], ...] = RULES) -> bytes:
    """`firewall.xml` as R4 writes it."""
    import xml.etree.ElementTree as ET

    root = ET.Element("firewall", version="2")
    group = ET.SubElement(root, "rules")
    for rule in rules:
        properties = ET.SubElement(ET.SubElement(group, "rule"), "properties")
        for name, value in rule.items():
            ET.SubElement(properties, "property", name=name).text = value
    ET.indent(root)
    text: str = ET.tostring(root, encoding="unicode")
    return text.replace("\r", "&#13;").encode()


def settings_of_r4(folder: Path, maker: BackupMaker | None = None) -> BackupMaker:
    """R4: properties, features, tags, devices and firewall rules with quotes, spaces, `$( )`,
    newlines and worse in names and values; a template, a disposable and its template; a label of
    the user's own; references to qubes that are in the backup and to others.
    """
    maker = maker or BackupMaker(folder / "maker", compression_filter=None)
    image = make_sparse(folder / "image", 64 * 1024, {0: b"image"})
    maker.add_qube(
        "work",
        template="debian-12",
        netvm="sys-vpn",
        files={"private.img": image, "firewall.xml": firewall_xml()},
        settings=Settings(properties=PROPERTIES, features=FEATURES, tags=TAGS, devices=DEVICES),
    )
    maker.add_qube("disp-mail", klass="DispVM", template="dvm", volumes={}, files={"empty": b""})
    maker.add_qube(
        "dvm",
        label="it's $(mine)",
        template="debian-12",
        files={"private.img": image, "whitelisted-appmenus.list": b"xterm.desktop\n"},
        settings=Settings(properties={"template_for_dispvms": "True"}),
    )
    maker.add_qube(
        "debian-12",
        klass="TemplateVM",
        label="black",
        template=None,
        files={"root.img": image, "private.img": image},
        volumes={"root": True, "private": True},
    )
    maker.add_qube("sys-vpn", netvm="", label="green", files={"private.img": image})
    maker.add_qube("left-behind", files={}, backup_content=False, settings=Settings(tags=["t"]))
    return maker


def v3_settings(folder: Path) -> Format3Maker:
    """R3.2: attributes, services and PCI devices as Python wrote them, with quotes, `$( )` and
    newlines; old firewall rules; a template that is a folder; a network qube.
    """
    maker = Format3Maker(folder / "maker")
    image = make_sparse(folder / "image", 64 * 1024, {0: b"image"})
    template = folder / "fedora-23"
    template.mkdir()
    for name in ("root.img", "private.img"):
        (template / name).write_bytes(b"image")
    maker.add_qube(
        "fedora-23", qid=1, klass="TemplateVM", label="black", template=None, files={".": template}
    )
    maker.add_qube(
        "sys-net",
        qid=2,
        tag="QubesProxyVm",
        template="fedora-23",
        netvm="sys-deep",
        files={"private.img": image, "firewall.xml": R3_FIREWALL},
        settings=Settings(attributes=R3_ATTRIBUTES),
    )
    return maker
