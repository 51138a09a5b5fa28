"""Writes everything in docs/ that is computed anew: `python -m tests.docs`."""

import tempfile
from pathlib import Path

from tests.docs import PAGES, code, console, examples


def main() -> None:
    """Format's examples first, then each page's commands, then its Python."""
    page = examples.PAGE
    page.write_text(examples.rewritten(page.read_text("utf-8")), "utf-8")
    for name in console.pages():
        path = PAGES / name
        with tempfile.TemporaryDirectory() as folder:
            path.write_text(console.rewritten(path.read_text("utf-8"), Path(folder)), "utf-8")
    for path in code.pages():
        with tempfile.TemporaryDirectory() as folder:
            path.write_text(code.rewritten(path.read_text("utf-8"), Path(folder)), "utf-8")


if __name__ == "__main__":
    main()
