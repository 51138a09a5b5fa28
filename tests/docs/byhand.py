"""The way by hand: blocks of shell commands in docs/recovery.md and in the kit's RECOVERY.txt.

In the page each stands behind a line `<!-- by hand: FORMAT -->`, and a block of `text` right behind
one is what it prints. Format 2 begins with the blocks of format 3, without the last one.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.docs import PAGES, ROOT
from tests.maker.tools import environment

PAGE = PAGES / "recovery.md"
KIT = ROOT / "qbackup/cli/kit/RECOVERY.txt"
SHELL = ("sh",)
SECONDS = 60
_BLOCK = re.compile(
    r"<!-- by hand: (?P<format>\d) -->\n```sh\n(?P<code>.*?)```(?:\n\n```text\n(?P<text>.*?)```)?",
    re.DOTALL,
)
#: What stands in place of `gzip -dc` where nothing is compressed: in format 4, in format 3.
UNCOMPRESSED = re.findall(r"```sh\nunpack\(\) \{ (cat && .*); \}\n```", PAGE.read_text("utf-8"))
_ASKING = "stty -echo; IFS= read -r pass; stty echo\n"


def blocks(number: int) -> list[str]:
    """The page's commands for a format, block by block."""
    if number == 2:
        return [*blocks(3)[:-1], *_own(2)]
    return _own(number)


def _own(number: int) -> list[str]:
    found = _BLOCK.finditer(PAGE.read_text("utf-8"))
    return [block["code"] for block in found if block["format"] == str(number)]


def shown(number: int) -> str:
    """The output of the commands for a format, as the page shows it."""
    found = _BLOCK.finditer(PAGE.read_text("utf-8"))
    texts = [block["text"] or "" for block in found if block["format"] == str(number)]
    return "".join(texts)


def kit_blocks(text: str) -> list[str]:
    """The commands by hand of a kit's page, block by block."""
    found = re.findall(r"(?:^    .*\n)+", text.partition("IF NONE OF THIS WORKS")[2], re.MULTILINE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in found]


def for_backup(commands: Sequence[str], backup: Path) -> list[str]:
    """The commands with the name of this backup in the first block."""
    first = re.sub(r"(?m)^backup=.*$", lambda _: f"backup='{backup}'", commands[0])
    assert first != commands[0]
    return [first, *commands[1:]]


def run(
    commands: Sequence[str],
    folder: Path,
    passphrase: str,
    *,
    shell: Sequence[str] = SHELL,
    changes: Mapping[str, str] | None = None,
) -> str:
    """Runs commands in a folder, as one script; returns what they print on both streams.

    Args:
        commands: those of `blocks` or `kit_blocks`, with a backup's name put in.
        changes: text → what a person would write in its place, as the page says.
    """
    script = "".join(commands)
    script = script.replace(_ASKING, "IFS= read -r pass\n")  # there is no terminal
    for old, new in (changes or {}).items():
        assert old in script, old
        script = script.replace(old, new)
    done = subprocess.run(
        [*shell, "-c", script],
        cwd=folder,
        env=environment(),
        input=os.fsencode(f"{passphrase}\n"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=SECONDS,
    )
    return os.fsdecode(done.stdout)
