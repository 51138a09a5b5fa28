"""The commands that set one qube up, as lines of a script."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from qbackup.archive.firewalls import Firewall
from qbackup.archive.qube import Qube
from qbackup.base.errors import QBackupError
from qbackup.base.names import display
from qbackup.cli.recreate.choice import ChosenQubes, name_fault
from qbackup.cli.recreate.words import NoWord, Words, comment, visible
from qbackup.formats.metadata import Device
from qbackup.formats.metadata.firewall import Rule
from qbackup.formats.metadata.record import DOM0_NAME
from qbackup.formats.metadata.settings3 import DISPOSABLE_NETVM

LABELS = ("red", "orange", "yellow", "green", "gray", "blue", "purple", "black")
DEFAULT_LABEL = "red"
FOR_DISPOSABLES = "template_for_dispvms"

_INDENT = "    "
_BASED_ON_TEMPLATES = ("AppVM", "DispVM")
_REFERENCES = ("netvm", "default_dispvm", "management_dispvm", "guivm", "audiovm")
_TO_NETWORKS = ("netvm", "default_dispvm")  # the default ones may lead to another network
_IDENTITY = ("name", "qid", "uuid", "dispid", "label", "template")  # given when a qube is made
_LEFT_OUT = {
    "installed_by_rpm": "dom0's packages don't know this qube, and it could never be removed",
    DISPOSABLE_NETVM: "R4 has no such property: make a disposable template with this network qube,"
    " and name it in default_dispvm",
}
#: Properties that are not just set; `qvm-prefs` takes - for _ in their names.
_HANDLED = frozenset({*_IDENTITY, *_REFERENCES, *_LEFT_OUT, FOR_DISPOSABLES})
_ADMIN_TAG = "created-by-"  # Qubes sets such a tag itself, and lets nobody else
_RULE_OPTIONS = (
    "action",
    "specialtarget",
    "dsthost",
    "proto",
    "dstports",
    "icmptype",
    "expire",
    "comment",
)
_PLAIN = re.compile(r"[A-Za-z0-9_.:+,-]{1,200}", re.ASCII)


class Steps:
    """Lines of a script about one qube, and the faults that they can't mend.

    Args:
        qube: as the backup has it.
        choice: the new names of this qube and of others.

    Attributes:
        lines: of the script.
        losses: steps that the script can't do, in sentences.
    """

    def __init__(self, qube: Qube, choice: ChosenQubes) -> None:
        self._qube = qube
        self._choice = choice
        self._name = choice.new_name(qube.name)
        self.lines: list[str] = []
        self.losses: list[str] = []

    def create(self) -> None:
        """Makes the qube, and allows disposables based on it before these are made."""
        label = self._qube.label or DEFAULT_LABEL
        if label not in LABELS:
            self._comment(
                f"The label {display(label)} is not one that every Qubes has: make it first, or"
                f" write another one: {', '.join(LABELS)}.",
                indent="",
            )
        options = [f"--class={self._qube.klass}", f"--label={label}"]
        template = self._qube.template
        if template is not None:
            self._note_origin("template", template, indent="")
            options.append(f"--template={self._choice.new_name(template)}")
        elif self._qube.klass in _BASED_ON_TEMPLATES:
            self._comment("No template is known: this Qubes' default one is taken.", indent="")
        self._command("create", self._name, *options, indent="", what="the qube itself")
        value = self._qube.properties.get(FOR_DISPOSABLES)
        if value is not None:
            self.lines.append(f"if was_made {self._name}; then")
            self._prefs(FOR_DISPOSABLES, value)
            self.lines.append("fi")

    def _note_origin(self, role: str, name: str, *, indent: str = _INDENT) -> None:
        """Adds a comment on a qube that is referred to and that this script does not make."""
        if name not in ("", DOM0_NAME, *self._choice.names):
            self._comment(
                f"This script does not make the {role} {display(name)}: make sure that it is there,"
                " or write another name.",
                indent=indent,
            )

    def settings(self) -> None:
        """Properties that refer to no qube, features and tags."""
        for name, value in self._qube.properties.items():
            if name.replace("-", "_") != name and name.replace("-", "_") in _HANDLED:
                self.record_fault(f"the property {display(name)} is not spelled as Qubes does it")
            elif name in _LEFT_OUT:
                shown = f"{display(name)} = {display(value)}"
                self._comment(f"Left out: {shown} ({_LEFT_OUT[name]}).")
            elif name not in (*_IDENTITY, *_REFERENCES, FOR_DISPOSABLES):
                self._prefs(name, value)
        for name, value in self._qube.features.items():
            what = f"the feature {display(name)}"
            self._command("try", "qvm-features", "--", self._name, name, value, what=what)
        for tag in self._qube.tags:
            if tag.startswith(_ADMIN_TAG):
                self._comment(f"Left out: the tag {display(tag)}, which Qubes itself sets.")
            else:
                what = f"the tag {display(tag)}"
                self._command("try", "qvm-tags", self._name, "add", "--", tag, what=what)
        for part in self._qube.settings.unreadable:
            self.record_fault(f"its {part} in qubes.xml can't be understood")

    def references(self) -> None:
        """Properties that refer to other qubes, which are all made by now."""
        for name in _REFERENCES:
            value = self._qube.properties.get(name)
            if value is None:
                continue
            new_name = self._choice.new_name(value)
            if value not in ("", DOM0_NAME) and name_fault(new_name) is not None:
                self.record_fault(f"its {name} is {display(value)}, which no qube can be called")
                self._prefs(name, "")
                continue
            self._note_origin(name, value)
            if name in _TO_NETWORKS:
                self._command("refer", self._name, name, new_name, what=f"its {name}")
            else:
                self._prefs(name, new_name)

    def devices(self) -> None:
        """Devices, as comments: an address may be another device's on another machine."""
        for device in self._qube.devices:
            self._comment(f"Device, not assigned: {_described(device)}.")
            words = [device.backend, device.ident, device.klass]
            words += [text for pair in device.options.items() for text in pair]
            if all(_PLAIN.fullmatch(word) for word in words):
                options = "".join(f" --option={k}={v}" for k, v in device.options.items())
                place = f"{self._choice.new_name(device.backend)}:{device.ident}"
                command = f"qvm-device {device.klass} attach --persistent{options}"
                self.lines.append(f"{_INDENT}#     {command} -- {self._name} {place}")

    def firewall(self, firewall: Firewall | None) -> None:
        """Sets the rules, in their order, in the place of the one that accepts everything.

        A qube that lost a rule gets no network: the rules behind it could accept packets that the
        lost rule stopped.
        """
        if firewall is None:
            self._comment("No firewall.xml in the backup: Qubes' default accepts everything.")
            return
        if isinstance(firewall, QBackupError):
            self._comment(f"Its firewall is lost: {firewall}.")
            self._cut_off()
            return
        before = len(self.losses)
        self._comment("Its firewall, rule by rule; packets that match none of them are dropped.")
        self.lines.append(f"{_INDENT}before=$failed")
        self._command("try", "qvm-firewall", self._name, "del", "--rule-no", "0", what="firewall")
        for rule in firewall:
            self._rule(rule)
        if len(self.losses) > before:
            self._cut_off()
        else:
            check = f'if [ "$failed" -ne "$before" ]; then cut_off {self._name}; fi'
            self.lines.append(f"{_INDENT}{check}")

    def _rule(self, rule: Rule) -> None:
        unknown = [name for name in rule if name not in _RULE_OPTIONS]
        if unknown:
            self.record_fault(
                f"a firewall rule has an option {display(unknown[0])}, which is not known"
            )
            return
        options = [f"{name}={rule[name]}" for name in _RULE_OPTIONS if name in rule]
        self._command(
            "try", "qvm-firewall", self._name, "add", *options, what="a rule of its firewall"
        )

    def _cut_off(self) -> None:
        self.lines.append(f"{_INDENT}cut_off {self._name}")

    def record_fault(self, what: str) -> None:
        """Records a property or step of this qube that can't be put into the script."""
        self.losses.append(visible(f"{display(self._qube.name)}: {what}"))
        self.lines.append(f"{_INDENT}lost {shlex.quote(self.losses[-1])}")

    def image(self, volume: str, path: str, *, is_certain: bool) -> None:
        """Fills a volume.

        Args:
            volume: its name.
            path: of the image below the folder with the restored files.
            is_certain: a whole restore has put this image there.
        """
        file = shlex.quote(path)
        condition = "" if is_certain else f"if is_restored {file}; then "
        end = "" if is_certain else "; fi"
        command = f"import_image {self._name} {shlex.quote(volume)} {file}"
        self.lines.append(f"{_INDENT}{condition}{command}{end}")

    def menu(self, path: str) -> None:
        """Sets the qube's entries in the menu."""
        self.lines.append(f"{_INDENT}set_menu {self._name} {shlex.quote(path)}")

    def _prefs(self, name: str, value: str) -> None:
        what = f"the property {display(name)}"
        self._command("try", "qvm-prefs", "--", self._name, name, value, what=what)

    def _command(self, *texts: str, what: str, indent: str = _INDENT) -> None:
        """Adds a command on one line, after the lines that set its variables."""
        words = Words()
        try:
            if texts.count("--") > 1:  # the programs take a value -- for the end of their options
                raise NoWord
            line = " ".join(words.word(text) for text in texts)
        except NoWord:
            self.record_fault(f"{what} can't be given to a program as an argument")
            return
        self.lines += [f"{indent}{each}" for each in (*words.lines, line)]

    def _comment(self, text: str, *, indent: str = _INDENT) -> None:
        self.lines += comment(text, indent=indent)


def _described(device: Device) -> str:
    parts = [f"{device.klass} {device.backend}:{device.ident}", device.mode, device.identity]
    parts += [f"{name}={value}" for name, value in device.options.items()]
    return display(", ".join(part for part in parts if part))


def notes_on(qube: Qube) -> Iterator[str]:
    """Describes a qube that no script makes, dom0, in lines for comments."""
    for name, value in qube.properties.items():
        yield f"property {display(name)} = {display(value)}"
    for name, value in qube.features.items():
        yield f"feature {display(name)} = {display(value)}"
    for tag in qube.tags:
        yield f"tag {display(tag)}"
    for device in qube.devices:
        yield f"device {_described(device)}"
