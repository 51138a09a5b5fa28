"""Makes the completions for shells, and the manual page, out of the parser.

Run as `python -m tests.make_shell` when that has changed. shtab and argparse-manpage write them;
they are committed, so that who installs needs neither.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from pathlib import Path

import qbackup
from qbackup.cli.options import build_parser
from qbackup.cli.shell import FILES

FOLDER = Path(qbackup.__file__).parent / "cli" / "shell"
MANUAL = "man/qbackup.1"
_PATHS = {"BACKUP", "FILE", "DEST"}
_FOLDERS = {"DIR", "FOLDER"}
_SHORT = "restores Qubes OS backups, without Qubes"
_MORE = """\
.SH EXIT STATUS
.TP
.B 0
everything asked for is there and verified
.TP
.B 1
done, but something is damaged, missing or in the way; the report names it
.TP
.B 2
wrong usage, or a qube or file that is not in the backup
.TP
.B 3
could not be unlocked: wrong passphrase, or an altered header; nothing was written
.TP
.B 4
not a backup that this program can read; nothing was written
.TP
.B 5
this machine failed: disk full, no permission, out of memory
.TP
.B 130, 143, 141
interrupted, terminated, output closed
.SH ENVIRONMENT
.TP
.B QBACKUP_PASSPHRASE, QBACKUP_PASSPHRASE_FILE, QBACKUP_PASSPHRASE_COMMAND
the passphrase, a file with it, or a program that prints it; an option goes before all of them
.TP
.B NO_COLOR
no colours
.SH FILES
.TP
.I DIR/.qbackup-journal
what an earlier restore into DIR has proven; a later one keeps these files
.SH EXAMPLES
.nf
%s
.fi
"""


def made() -> dict[str, str]:
    """Path below `FOLDER` → text."""
    import shtab

    texts = {}
    for shell, path in FILES.items():
        lines = shtab.complete(_marked(), shell).splitlines()
        kept = [line.rstrip() for line in lines if "AUTOMATICALLY GENERATED" not in line]
        texts[path] = "\n".join(kept) + "\n"
    return {**texts, MANUAL: _manual()}


def _marked() -> argparse.ArgumentParser:
    """The parser, and what a shell should offer for each argument."""
    import shtab

    parser = build_parser()
    for action in _actions(parser):
        if action.metavar in _PATHS:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar in _FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    return parser


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)


def _manual() -> str:
    from build_manpages.manpage import Manpage

    os.environ["COLUMNS"] = "80"
    parser = build_parser()
    examples = (parser.epilog or "").partition(":\n")[2]
    parser.epilog = None
    for action in _actions(parser):
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                command.epilog = None
    parser.man_short_description = _SHORT  # type: ignore[attr-defined]
    text = str(Manpage(parser, format="single-commands-section"))
    head = f'.TH QBACKUP 1 "" "qbackup {qbackup.__version__}" "User Commands"'
    text = re.sub(r"^\.TH .*$", head, text, count=1, flags=re.MULTILINE)
    text = text.replace("POSITIONAL ARGUMENTS", "COMMANDS")
    # as it is broken into lines there, and without the description that stands before it
    text = re.sub(
        r"^(usage: .+?)\n\n.+?\n\n", r".nf\n\1\n.fi\n\n", text, flags=re.MULTILINE | re.DOTALL
    )
    shown = examples.rstrip().replace("\\", "\\\\").replace("-", "\\-")
    return text.rstrip() + "\n" + _MORE % shown


def main() -> None:
    for name, text in made().items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
