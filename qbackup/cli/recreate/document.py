"""The whole script: all qubes are made first, then set up, then filled."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from qbackup import __version__
from qbackup.archive.firewalls import Firewall
from qbackup.archive.qube import Qube
from qbackup.base.names import display, unsafe_reason
from qbackup.cli.recreate import preamble
from qbackup.cli.recreate.choice import ChosenQubes, name_fault
from qbackup.cli.recreate.steps import Steps, notes_on
from qbackup.cli.recreate.words import Words, comment
from qbackup.formats.metadata.record import DOM0_NAME
from qbackup.restore.output.whereabouts import path_of

_CLASS = re.compile(r"[A-Z][A-Za-z]{0,30}VM", re.ASCII)
_ORDER = ("TemplateVM", "StandaloneVM", "AppVM")  # each before those that may be based on it
_VOLUMES = ("root", "private")
_WHOLE_FOLDER = "."
_MENU = "whitelisted-appmenus.list"


@dataclass(frozen=True)
class Script:
    """A script.

    Args:
        text: all of it.
        losses: requests that the script can't fulfil, in sentences.
    """

    text: str
    losses: tuple[str, ...]


def make_script(
    choice: ChosenQubes,
    firewalls: Mapping[str, Firewall],
    *,
    backup_id: str | None = None,
    restored: str | None = None,
) -> Script:
    """Writes the script.

    Args:
        choice: the qubes to make.
        firewalls: their rules, by the names that the backup has for them.
        backup_id: of the backup, for readers of the script; None where it has none.
        restored: the folder with the restored files; None: the user of the script names it.
    """
    writer = _ScriptWriter(choice, firewalls)
    origin = f", from the backup {backup_id}" if backup_id else ""
    parts = [
        "\n".join([f"{preamble.ABOUT}#", *comment(f"Written by qbackup {__version__}{origin}.")]),
        preamble.FUNCTIONS.rstrip("\n"),
        preamble.BEGIN.rstrip("\n"),
        _folder(restored),
        *writer.parts(),
        preamble.END.rstrip("\n"),
    ]
    return Script("\n\n".join(parts) + "\n", tuple(writer.losses))


def _folder(restored: str | None) -> str:
    if restored is None:
        return preamble.NO_FOLDER + preamble.CHECK_FOLDER.rstrip("\n")
    words = Words()
    setting = preamble.WITH_FOLDER.format(folder=words.word(restored))
    return "\n".join([*words.lines, setting + preamble.CHECK_FOLDER.rstrip("\n")])


class _ScriptWriter:
    def __init__(self, choice: ChosenQubes, firewalls: Mapping[str, Firewall]) -> None:
        self._choice = choice
        self._firewalls = firewalls
        self.losses: list[str] = []

    def parts(self) -> Iterable[str]:
        """The parts behind the functions, in order."""
        qubes = sorted(
            (qube for qube in self._choice.qubes if qube.name != DOM0_NAME),
            key=lambda q: _ORDER.index(q.klass) if q.klass in _ORDER else len(_ORDER),
        )
        for qube in self._choice.qubes:
            if qube.name == DOM0_NAME:
                yield self._dom0(qube)
        makeable = []
        for qube in qubes:
            fault = self._fault(qube)
            if fault is None:
                makeable.append(qube)
            else:
                yield self._left_out(qube, fault)
        if makeable:
            yield _title("1. The qubes are made: templates first, disposables last.")
        for qube in makeable:
            yield self._steps(qube, lambda steps, _: steps.create())
        if makeable:
            yield _title("2. Properties, features and tags, but for references to other qubes.")
        for qube in makeable:
            yield self._block(qube, lambda steps, _: steps.settings())
        if makeable:
            yield _title("3. References to other qubes; devices, firewalls, images.")
        for qube in makeable:
            yield self._block(qube, self._rest)

    def _fault(self, qube: Qube) -> str | None:
        """The reason why a qube can't be made at all; None if it can."""
        fault = name_fault(self._choice.new_name(qube.name))
        if fault is not None:
            return f"no qube can have this name ({fault}); give it another: QUBE=NEWNAME"
        if not qube.klass:
            return "its class is not known, as qubes.xml is lost or says nothing of it"
        if not _CLASS.fullmatch(qube.klass):
            return f"its class is {display(qube.klass)[:40]}, which no Qubes has"
        return None

    def _left_out(self, qube: Qube, fault: str) -> str:
        self.losses.append(f"{display(qube.name)}: left out, {fault}")
        lines = comment(f"LEFT OUT: {display(qube.name)}: {fault}")
        return "\n".join([*lines, f"lost {shlex.quote(self.losses[-1])}"])

    def _dom0(self, qube: Qube) -> str:
        lines = comment(
            "dom0 is not made: this is the one that you are in. Its home is in DIR/dom0, and the"
            " backup knows this of it:"
        )
        return "\n".join([*lines, *(f"#     {note}" for note in notes_on(qube))])

    def _steps(self, qube: Qube, fill: Callable[[Steps, Qube], None]) -> str:
        steps = Steps(qube, self._choice)
        fill(steps, qube)
        self.losses += steps.losses
        return "\n".join([*self._heading(qube), *steps.lines])

    def _block(self, qube: Qube, fill: Callable[[Steps, Qube], None]) -> str:
        """Steps for a qube that the script has made, and only then."""
        steps = Steps(qube, self._choice)
        fill(steps, qube)
        self.losses += steps.losses
        name = self._choice.new_name(qube.name)
        body = [f"if was_made {name}; then", *steps.lines, "    :", "fi"]
        return "\n".join([*self._heading(qube), *body])

    def _heading(self, qube: Qube) -> list[str]:
        new_name = self._choice.new_name(qube.name)
        old = "" if new_name == qube.name else f", {display(qube.name)} in the backup"
        return comment(f"{display(new_name)} ({display(qube.klass)}){old}")

    def _rest(self, steps: Steps, qube: Qube) -> None:
        steps.references()
        steps.devices()
        steps.firewall(self._firewalls.get(qube.name))
        self._files(steps, qube, {file.name.partition("/")[2] for file in qube.files})

    def _files(self, steps: Steps, qube: Qube, files: Collection[str]) -> None:
        """Fills volumes and menu from restored files, which are below the qube's old name."""
        if "/" in qube.name or unsafe_reason(qube.name):
            steps.record_fault("no folder can have its name, so none of its files was restored")
            return
        for volume in _VOLUMES:
            image = f"{volume}.img"
            if image in files:
                steps.image(volume, _restored(qube, image), is_certain=True)
            elif image in qube.required:
                steps.record_fault(
                    f"{image} is not in this backup, so its volume {volume} is empty"
                )
            elif _WHOLE_FOLDER in files:
                steps.image(volume, _restored(qube, image), is_certain=False)
        if _WHOLE_FOLDER in qube.required and _WHOLE_FOLDER not in files:
            steps.record_fault("its files are not in this backup")
        if _MENU in files:
            steps.menu(_restored(qube, _MENU))


def _restored(qube: Qube, file: str) -> str:
    """The path of a file in the output folder of a restore."""
    return "/".join(path_of(qube.name, file))


def _title(text: str) -> str:
    return f"# {'=' * len(text)}\n# {text}"
