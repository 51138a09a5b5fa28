"""What mkdocs does with a page before it becomes HTML."""

from __future__ import annotations

import re
from typing import Any

# links to files of the project that are no pages: on the site they are shown as text
_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]*\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The pages are read in the project's folder too, where such links lead somewhere."""
    return _OUTSIDE.sub(r"\1", markdown)
