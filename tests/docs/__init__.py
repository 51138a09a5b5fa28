"""What the pages in docs/ show is so: `python -m tests.docs` writes it anew, `test_docs` checks it.

`examples`: bytes and figures of docs/format.md, computed from the vectors. `console`: commands and
what they print. `code`: Python blocks.
"""

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = ROOT / "docs"
