"""The display on a terminal where rich is installed: colours, a table, a live progress.

The words are those of the plain output; here they only get a form. `output.is_pretty` decides where
this is used; rich itself leaves colours out where ``NO_COLOR`` is set.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from qbackup.base.report import Progress
from qbackup.cli.output import drop, encodable, visible
from qbackup.cli.progress import describe_rate

_REFRESHES = 4  # a second
_FILES_SHOWN = 4
_BAR_COLUMNS = 40
_TABLE_COLUMNS = 72
_MARGIN = 12
#: Qubes' labels, as they look on dark and light terminals.
_LABELS = {
    "red": "red", "orange": "dark_orange", "yellow": "yellow", "green": "green",
    "gray": "grey50", "blue": "blue", "purple": "medium_purple", "black": "bright_black",
}  # fmt: skip
_STYLES = (
    ("DAMAGED", "bold red"),
    ("MISSING", "bold red"),
    ("NOT EVERYTHING", "bold red"),
    ("STOPPED", "bold red"),
    ("THE ARCHIVE ", "bold red"),
    ("ALL ", "bold yellow"),
    ("UNPROVEN", "bold yellow"),
    ("UNVERIFIED", "bold yellow"),
    ("EXISTS", "bold yellow"),
    ("ARCHIVE", "bold red"),
    ("LIMIT", "bold yellow"),
    ("what to do: ", "cyan"),
    ("All ", "bold green"),
)


def console(stream: TextIO) -> Console:
    """A console that takes text literally: nothing in a name is markup, an emoji or a number."""
    return Console(file=stream, markup=False, emoji=False, highlight=False, soft_wrap=False)


def rendered(stream: TextIO, *parts: RenderableType) -> str:
    """The text of these parts, with the codes for this stream."""
    out = console(stream)
    with out.capture() as capture:
        out.print(*parts, sep="\n")
    return capture.get().rstrip("\n")


def qubes_table(stream: TextIO, rows: Sequence[Sequence[str]]) -> str:
    """The table of `qbackup list`: the first row as heads, labels in their colours."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for i, head in enumerate(rows[0]):
        is_size = head == "SIZE"
        table.add_column(
            head,
            justify="right" if is_size else "left",
            no_wrap=i == 0 or is_size,
            overflow="fold",
        )
    cells = [_cells(stream, row, rows[0].index("LABEL")) for row in rows[1:]]
    if console(stream).width < _TABLE_COLUMNS:
        return rendered(stream, *(_block(row) for row in cells))
    for row in cells:
        table.add_row(*row)
    return rendered(stream, table)


def _cells(stream: TextIO, row: Sequence[str], label: int) -> list[Text]:
    cells = [Text(encodable(stream, cell)) for cell in row]
    style = _LABELS.get(row[label])
    if style:
        dot = encodable(stream, "\u25cf")
        mark = dot if dot == "\u25cf" else "*"
        cells[label] = Text.assemble((f"{mark} ", style), cells[label])
    for cell in cells:
        cell.highlight_words(["IS MISSING"], "bold red")
    return cells


def _block(cells: Sequence[Text]) -> RenderableType:
    """A qube on a terminal that is too narrow for columns."""
    name, *middle, files = cells
    name.stylize("bold")
    below = (Text("  ").join(middle), files)
    return Group(name, *(Padding(line, (0, 0, 0, 2)) for line in below))


def report(stream: TextIO, text: str) -> str:
    """The report of `report_text`, its important lines in colours."""
    lines = [_styled(encodable(stream, line)) for line in visible(text).split("\n")]
    return rendered(stream, Text("\n").join(lines))


def _styled(line: str) -> Text:
    text = Text(line)
    for beginning, style in _STYLES:
        if line.startswith(beginning):
            whole = beginning.strip().endswith(":") or beginning[0] in "NSA"
            text.stylize(style, 0, len(line) if whole else len(beginning))
    return text


class LiveProgress:
    """A display of how far a restore is, several times a second. Callable, as `ProgressLine`.

    Args:
        stream: a terminal.
        clock: seconds.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._start = clock()
        self._progress: Progress | None = None
        self._console = console(stream)
        self._live = Live(
            console=self._console,
            get_renderable=self.render,
            refresh_per_second=_REFRESHES,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __call__(self, progress: Progress) -> None:
        """Shows this state at the next refresh."""
        first, self._progress = self._progress is None, progress
        if first:
            with self._unimportant():
                self._live.start(refresh=True)

    def clear(self) -> None:
        """Takes the display away, so that other text can be shown."""
        with self._unimportant():
            self._live.stop()

    @contextlib.contextmanager
    def _unimportant(self) -> Iterator[None]:
        """Ignores a terminal that went away, e.g. because a connection broke."""
        try:
            yield
        except OSError:
            drop(self._stream)

    def render(self) -> RenderableType:
        """The display at this moment."""
        progress = self._progress
        if progress is None:
            return Text()
        seconds = self._clock() - self._start
        width = max(1, min(_BAR_COLUMNS, self._console.width - _MARGIN))
        rows: list[RenderableType] = []
        if progress.total:
            share = 100 * progress.done / progress.total
            line = Table.grid(padding=(0, 1))
            line.add_row(
                ProgressBar(total=progress.total, completed=progress.done, width=width),
                Text(f"{share:3.0f} %"),
            )
            rows.append(line)
        rows.append(self._line(describe_rate(progress, seconds)))
        rows.append(self._line(_keys(progress), "dim"))
        shown = progress.files[:_FILES_SHOWN]
        rows += [self._line(f"  {encodable(self._stream, name)}") for name in shown]
        more = len(progress.files) - len(shown)
        if more > 0:
            rows.append(self._line(f"  and {more} more", "dim"))
        return Group(*rows)

    def _line(self, text: str, style: str = "") -> Text:
        """A line that is cut where the terminal ends."""
        return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _keys(progress: Progress) -> str:
    if not progress.deriving and not progress.waiting:
        return "no keys to derive"
    keys = "1 key" if progress.deriving == 1 else f"{progress.deriving} keys"
    return f"deriving {keys}, {progress.waiting} more asked for"
