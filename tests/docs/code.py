"""Python blocks in the pages, and what they print.

The blocks of a page run one after another, with one set of names, in a folder that has the sample
backup as `qubes-2024-09-17T101112` and what else `console.prepare` puts there. A block of `text`
right behind one is what it prints.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.docs import PAGES, README, ROOT, console, stood_in

_BLOCK = re.compile(r"```python\n(?P<code>.*?)```(?:\n\n```text\n(?P<printed>.*?)```)?", re.DOTALL)
_MARK = "@@ end of a block @@"


def run_readme(folder: Path) -> None:
    """README's blocks, which show no output, on the sample."""
    run(stood_in(README.read_text("utf-8")), folder)


def run(page: str, folder: Path) -> list[str]:
    """What each block prints.

    Raises `RuntimeError` when one ends with an error.
    """
    console.prepare(folder)
    codes = (block["code"] for block in _BLOCK.finditer(page))
    program = "".join(f"{code}\nprint({_MARK!r})\n" for code in codes)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        check=False,
        timeout=240,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    return done.stdout.decode().split(f"{_MARK}\n")[:-1]


def shown(page: str) -> list[str]:
    """What the page says that each block prints."""
    return [block["printed"] or "" for block in _BLOCK.finditer(page)]


def rewritten(page: str, folder: Path) -> str:
    """The page with every output as it must be."""
    printed = iter(run(page, folder))

    def anew(block: re.Match[str]) -> str:
        text = next(printed)
        code = f"```python\n{block['code']}```"
        return f"{code}\n\n```text\n{text}```" if text else code

    return _BLOCK.sub(anew, page)


def pages() -> list[Path]:
    """The pages with such blocks."""
    return [path for path in sorted(PAGES.glob("*.md")) if "```python" in path.read_text("utf-8")]
