"""Makes the pictures of terminals in docs/pictures: `python -m tests.make_pictures`.

What is shown is what the program prints on a terminal with colours; rich draws it.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from qbackup.cli import pretty
from qbackup.restore.report import Progress
from tests import alter
from tests.commandline import SAMPLE, SAMPLE_FILE, Terminal
from tests.test_pretty import Screen

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
WIDTH = 88
_KEY = ("-p", SAMPLE_FILE, "-q")
_FONT = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)  # it would be fetched from elsewhere
MIB = 1 << 20


def picture(name: str, title: str, text: str) -> None:
    """Draws what a terminal shows."""
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True)
        console.print(Text.from_ansi(text))
        svg = console.export_svg(title=title, unique_id=name)
    svg = "\n".join(line.rstrip() for line in _FONT.sub("", svg).splitlines()) + "\n"
    (FOLDER / f"{name}.svg").write_text(svg, encoding="utf-8")


def shown(*arguments: str | Path) -> str:
    """What a run shows on a terminal."""
    colours = {"TERM": "xterm-256color"}
    with Terminal(*arguments, *_KEY, env=colours, columns=WIDTH) as terminal:
        terminal.finish()
    return terminal.seen.replace("\r\n", "\n").rstrip()


def progress() -> str:
    """A restore under way."""
    os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(WIDTH)}
    times = iter([0.0])
    live = pretty.LiveProgress(Screen(), lambda: next(times, 74.0))
    files = ("personal/private.img", "work/root.img")
    live._progress = Progress(7_310 * MIB, 19_500 * MIB, files[1], files, deriving=8, waiting=16)
    return pretty.rendered(Screen(), live.render())


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    picture("list", "qbackup list BACKUP", shown("list", SAMPLE))
    picture("progress", "qbackup restore BACKUP -o restored", progress())
    with tempfile.TemporaryDirectory() as folder:
        damaged = alter.flipped(SAMPLE, Path(folder) / "backup", "vm2/private.img.000.enc", 600)
        picture("report", "qbackup verify BACKUP", shown("verify", damaged))


if __name__ == "__main__":
    main()
