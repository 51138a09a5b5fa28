"""Stand-ins for Qubes' `qvm-*` programs, which write down what they are given; and a Qubes that
takes what was written down as those programs would.

Their arguments are parsed as the real ones do it, with `argparse` and the same options
(QubesOS/qubes-core-admin-client, `qubesadmin/tools/`): a value that argparse takes for an option
shows here.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = (
    "qvm-create",
    "qvm-prefs",
    "qvm-features",
    "qvm-tags",
    "qvm-firewall",
    "qvm-volume",
    "qvm-appmenus",
    "qvm-device",
)
SHELLS = ("dash", "bash")

# Arguments hold no NUL, so they are exact: their number, the program's name, each of them.
_RECORDER = """\
#!/bin/sh
if read -r line; then exit 9; fi
printf '%s\\0' "$#" "${0##*/}" "$@" >>"$QVM_LOG"
IFS=,
for words in $QVM_REFUSED; do
    IFS=' '
    refused=yes
    for word in $words; do
        found=no
        for argument in "${0##*/}" "$@"; do
            if [ "$argument" = "$word" ]; then found=yes; fi
        done
        if [ "$found" = no ]; then refused=no; fi
    done
    if [ "$refused" = yes ]; then exit 1; fi
done
exit 0
"""


@dataclass(frozen=True)
class ScriptRun:
    """A script that was run: its status, its standard error, and each program's arguments."""

    status: int
    err: str
    calls: list[list[str]]


def run_script(
    text: bytes,
    folder: Path,
    *arguments: str,
    shell: str = "dash",
    refused: Sequence[Sequence[str]] = (),
) -> ScriptRun:
    """Runs a script with the stand-ins on its path, in `folder`, where it finds nothing else.

    `refused`: a program fails that is given all of these words.
    """
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for name in PROGRAMS:
        (programs / name).write_text(_RECORDER, "utf-8")
        (programs / name).chmod(0o755)
    script, log = folder / "make-qubes.sh", folder / "log"
    script.write_bytes(text)
    log.write_bytes(b"")
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "QVM_LOG": str(log),
        "QVM_REFUSED": ",".join(" ".join(words) for words in refused),
        "LC_ALL": "C.UTF-8",
    }
    before = set(folder.rglob("*"))
    ended = subprocess.run(
        [shell, str(script), *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert set(folder.rglob("*")) == before, "the script has written something"
    assert ended.stdout == b""
    calls = list(_calls(log.read_bytes().decode("utf-8", "surrogateescape")))
    return ScriptRun(ended.returncode, ended.stderr.decode("utf-8", "replace"), calls)


def _calls(log: str) -> Iterator[list[str]]:
    words = log.split("\0")[:-1]
    while words:
        end = int(words[0]) + 2
        yield words[1:end]
        words = words[end:]


@dataclass
class MadeQube:
    """A qube on the new Qubes."""

    klass: str
    properties: dict[str, str] = field(default_factory=dict)
    features: dict[str, str] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    rules: list[dict[str, str]] = field(default_factory=lambda: [{"action": "accept"}])
    volumes: dict[str, str] = field(default_factory=dict)
    menu: str | None = None


class NewQubes:
    """A Qubes that programs are run on: what each of them changes."""

    def __init__(self, calls: Sequence[Sequence[str]]) -> None:
        self.qubes: dict[str, MadeQube] = {}
        for program, *arguments in calls:
            getattr(self, "_" + program.partition("-")[2])(arguments)

    def _create(self, arguments: list[str]) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("--class", "-C", dest="klass", default="AppVM")
        parser.add_argument("--label", "-l", required=True)
        parser.add_argument("--template", "-t")
        parser.add_argument("name", nargs="?")
        given = parser.parse_args(arguments)
        assert given.name not in self.qubes
        qube = self.qubes[given.name] = MadeQube(given.klass)
        qube.properties["label"] = given.label
        if given.template is not None:
            qube.properties["template"] = given.template

    def _set(self, arguments: list[str], *flags: str) -> tuple[MadeQube, str, str]:
        parser = argparse.ArgumentParser()
        parser.add_argument("qube", nargs=1)
        for flag in flags:
            parser.add_argument(flag, action="store_true")
        parser.add_argument("name", nargs="?")
        parser.add_argument("value", nargs="?")
        given = parser.parse_args(arguments)
        assert given.value is not None
        return self.qubes[given.qube[0]], given.name, given.value

    def _prefs(self, arguments: list[str]) -> None:
        qube, name, value = self._set(arguments, "--default", "-D", "--get", "--set", "-s")
        qube.properties[name] = value

    def _features(self, arguments: list[str]) -> None:
        qube, name, value = self._set(arguments, "--delete", "--unset", "--default", "-D")
        qube.features[name] = value

    def _tags(self, arguments: list[str]) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("qube", nargs=1)
        add = parser.add_subparsers(required=True).add_parser("add")
        add.add_argument("tag", nargs="+")
        given = parser.parse_args(arguments)
        self.qubes[given.qube[0]].tags += given.tag

    def _firewall(self, arguments: list[str]) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("qube", nargs=1)
        commands = parser.add_subparsers(dest="command", required=True)
        commands.add_parser("add").add_argument("rule", nargs="+")
        commands.add_parser("del").add_argument("--rule-no", type=int)
        given = parser.parse_args(arguments)
        rules = self.qubes[given.qube[0]].rules
        if given.command == "del":
            rules.pop(given.rule_no)
        else:
            rules.append(dict(part.split("=", 1) for part in given.rule))

    def _volume(self, arguments: list[str]) -> None:
        parser = argparse.ArgumentParser()
        command = parser.add_subparsers(required=True).add_parser("import")
        command.add_argument("volume")
        command.add_argument("path")
        given = parser.parse_args(arguments)
        qube, _, volume = given.volume.partition(":")
        self.qubes[qube].volumes[volume] = given.path

    def _appmenus(self, arguments: list[str]) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("--set-whitelist")
        parser.add_argument("qube", nargs=1)
        given = parser.parse_args(arguments)
        self.qubes[given.qube[0]].menu = given.set_whitelist
