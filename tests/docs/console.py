"""Commands in the pages, and what they print.

A block of `console` holds lines `$ COMMAND`, each followed by its output, as a person sees both
streams. All blocks of a page are one shell session, in a folder that has what `prepare` puts there.
`<!-- backup: NAME -->` before a block says whose passphrase qbackup gets from the environment from
there on: the pages leave out that it asks. What differs between machines is masked when comparing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.docs import PAGES, ROOT, stood_in
from tests.maker.tools import SEARCH_PATH
from tests.secondreader import members
from tests.support import vectorfiles

_BLOCK = re.compile(
    r"(?:<!-- backup: (?P<backup>[a-z-]+) -->\n+)?```console\n(?P<text>.*?)```", re.DOTALL
)
_MARK = "@@ end of a command @@"
_MASKS = [
    (re.compile(r"about [\d:]+, \S+ \S+ of memory"), "about TIME, SIZE of memory"),
    (re.compile(r"^qbackup \d\S*$", re.MULTILINE), "qbackup VERSION"),
    (re.compile(r"^debugfs \d.*$", re.MULTILINE), "debugfs VERSION"),
]
_FRONT_BYTES = 30_720  # of the sample: header, its copy, the list of qubes
_VECTOR = "correct horse battery staple"
PASSPHRASES = {
    "sample": "a sample passphrase",
    "vector": _VECTOR,
    "wrong": "A SAMPLE PASSPHRASE",
}
#: Names of files in the folder → the vectors that they are copies of.
_COPIES = {"qubes-2015-06-05T101112": "v3-standalone", "qubes-2013-12-01T101112": "v2-version-2"}


def prepare(folder: Path) -> None:
    """The backups that the pages speak of."""
    sample = (ROOT / "examples/sample-backup").read_bytes()
    (folder / "qubes-2024-09-17T101112").write_bytes(sample)
    altered = flipped(sample, "backup-header", 110)
    (folder / "qubes-with-an-altered-header").write_bytes(altered)
    proof = flipped(sample, "backup-header.hmac", 70)
    (folder / "qubes-with-a-damaged-proof").write_bytes(proof)
    unlisted = flipped(sample, "qubes.xml.000.enc", 150)
    (folder / "qubes-with-a-damaged-list").write_bytes(unlisted)
    (folder / "qubes-cut-off").write_bytes(sample[:45_000])
    vector = vectorfiles.backup_path("xz-many-chunks").read_bytes()
    for name, index in (("qubes-damaged", 5), ("qubes-damaged-elsewhere", 7)):
        (folder / name).write_bytes(flipped(vector, f"vm1/private.img.{index:03d}.enc", 100))
    for name, source in _COPIES.items():
        (folder / name).write_bytes(vectorfiles.backup_path(source).read_bytes())
    lost, front = folder / "qubes-with-a-lost-front", _FRONT_BYTES
    lost.write_bytes(bytes(front) + sample[front:])
    Path(f"{lost}.front").write_bytes(sample[:front])
    tools = folder / ".tools"
    tools.mkdir()
    (tools / "qbackup").write_text(f'#!/bin/sh\nexec {sys.executable} -m qbackup "$@"\n')
    (tools / "qbackup").chmod(0o755)


def flipped(backup: bytes, name: str, at: int) -> bytes:
    """A backup with one bit of a member changed."""
    for member in members(backup, concatenated=True):
        if member.name.decode() == name:
            where = member.data + at
            return backup[:where] + bytes([backup[where] ^ 1]) + backup[where + 1 :]
    raise KeyError(name)


def commands(text: str) -> list[str]:
    """The commands of a block; lines behind a `\\` at a line's end belong to it."""
    found: list[str] = []
    goes_on = False
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append(line[2:])
        elif goes_on:
            found[-1] += f"\n{line}"
        goes_on = (line.startswith("$ ") or goes_on) and line.endswith("\\")
    return found


def run(page: str, folder: Path) -> list[str]:
    """The blocks of a page as they must be."""
    prepare(folder)
    blocks = list(_BLOCK.finditer(page))
    outputs = iter(_outputs(_script(blocks), folder))
    return ["".join(_shown(c, next(outputs)) for c in commands(b["text"])) for b in blocks]


def _shown(command: str, output: str) -> str:
    return f"$ {command}\n{output}"


def _script(blocks: Sequence[re.Match[str]]) -> str:
    lines = ["status=0"]
    for block in blocks:
        if block["backup"]:
            lines.append(f"export QBACKUP_PASSPHRASE='{PASSPHRASES[block['backup']]}'")
        for command in commands(block["text"]):
            lines.append(f"(exit $status)\n{command}\nstatus=$?; echo '{_MARK}'")
    return "\n".join(lines) + "\n"


def _outputs(script: str, folder: Path) -> list[str]:
    environment = {key: value for key, value in os.environ.items() if "QBACKUP" not in key}
    environment |= {
        "PATH": f"{folder / '.tools'}{os.pathsep}{SEARCH_PATH}",
        "PYTHONPATH": str(ROOT),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "DEBUGFS_PAGER": "cat",
    }
    typed = f"{PASSPHRASES['sample']}\n" + f"{_VECTOR}\n" * 2
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        input=typed.encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=240,
    )
    return done.stdout.decode().split(f"{_MARK}\n")


def plain_commands(page: str) -> list[str]:
    """The lines of `sh` blocks that call qbackup, on backups of the folder that `prepare` fills."""
    blocks = re.findall(r"```sh\n(.*?)```", stood_in(page), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("qbackup ")]


def run_plain(page: str, folder: Path) -> list[str]:
    """Runs them, with the sample's passphrase, until one fails; returns what they print."""
    prepare(folder)
    lines = [f"export QBACKUP_PASSPHRASE='{PASSPHRASES['sample']}'; set -e"]
    lines += [f"{line}\necho '{_MARK}'" for line in plain_commands(page)]
    return _outputs("\n".join(lines), folder)[:-1]


def masked(text: str) -> str:
    """Without what differs between machines."""
    for pattern, replacement in _MASKS:
        text = pattern.sub(replacement, text)
    return text


def shown(page: str) -> list[str]:
    """The blocks of a page as they stand there."""
    return [block["text"] for block in _BLOCK.finditer(page)]


def rewritten(page: str, folder: Path) -> str:
    """The page with every block as it must be; those that only differ in a mask stay."""
    fresh = iter(run(page, folder))

    def anew(block: re.Match[str]) -> str:
        text = next(fresh)
        if masked(text) == masked(block["text"]):
            return block[0]
        return block[0].replace(f"```console\n{block['text']}", f"```console\n{text}")

    return _BLOCK.sub(anew, page)


def pages() -> list[str]:
    """Names of the pages with such blocks."""
    return [path.name for path in sorted(PAGES.glob("*.md")) if "```console" in path.read_text()]
