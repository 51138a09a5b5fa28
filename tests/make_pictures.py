"""Makes the pictures of terminals in docs/pictures: `python -m tests.make_pictures [FOLDER]`.

What is shown is what the program prints on a terminal with colours; rich draws it.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from benchmarks.workload import FULL, PASSPHRASE, make_backup
from tests.support import alter
from tests.support.commandline import SAMPLE, SAMPLE_FILE, Terminal

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
WIDTH = 88
_KEY = ("-p", SAMPLE_FILE, "-q")
_FONT = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)  # it would be fetched from elsewhere
_MOVES = re.compile(r"\x1b\[(\?25[lh]|\d*[A-L])")


def picture(name: str, title: str, text: str) -> None:
    """Draws what a terminal shows."""
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True)
        console.print(Text.from_ansi(text))
        svg = console.export_svg(title=title, unique_id=name)
    svg = "\n".join(line.rstrip() for line in _FONT.sub("", svg).splitlines()) + "\n"
    (FOLDER / f"{name}.svg").write_text(svg, encoding="utf-8")


def shown(*arguments: str | Path, key: Sequence[str | Path] = _KEY) -> str:
    """What a run shows on a terminal."""
    colours = {"TERM": "xterm-256color"}
    with Terminal(*arguments, *key, env=colours, columns=WIDTH) as terminal:
        terminal.finish()
    return terminal.seen.replace("\r\n", "\n").rstrip()


def progress(backup: Path, out: Path) -> str:
    """The last that was seen of a restore when a part of it was done."""
    env = {"TERM": "xterm-256color", "QBACKUP_PASSPHRASE": PASSPHRASE}
    with Terminal("restore", backup, "-o", out, env=env, columns=WIDTH) as terminal:
        terminal.expect(r" [2-8]\d %(.|\n)*\x1b\[2K")
        frames = terminal.seen.split("\x1b[2K")
        terminal.finish()
    frame = next(frame for frame in reversed(frames) if re.search(r" [2-8]\d %", frame))
    return _MOVES.sub("", frame).replace("\r\n", "\n").rstrip()


def main(workload: Path | None = None) -> None:
    """workload: the folder of the benchmarks, where their backup may be already."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    picture("list", "qbackup list BACKUP", shown("list", SAMPLE))
    picture("info", "qbackup info BACKUP", shown("info", SAMPLE))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "wrong").write_text("my other passphrase")
        wrong = ("list", SAMPLE, "-p", folder / "wrong", "-q")
        picture("wrong-passphrase", "qbackup list BACKUP", shown(*wrong, key=()))
        restore = ("restore", SAMPLE, "-o", folder / "out")
        picture("restored", "qbackup restore BACKUP -o restored", shown(*restore))
        damaged = alter.flipped(SAMPLE, folder / "damaged", "vm2/private.img.000.enc", 600)
        picture("damaged", "qbackup verify BACKUP", shown("verify", damaged))
        large = make_backup(workload or folder, FULL)
        title = "qbackup restore BACKUP -o restored"
        picture("progress", title, progress(large, folder / "restored"))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
