"""What the pages in docs/ show is so: `python -m tests.docs` writes it anew, `test_docs` checks it.

`examples`: bytes and figures of docs/format.md, computed from the vectors. `console`: commands and
what they print. `code`: Python blocks.
"""

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
#: README's names → those that the sample has.
STAND_INS = {
    'passphrase="…"': "passphrase='a sample passphrase'",
    "/media/usb/": "",
    " BACKUP ": " qubes-2024-09-17T101112 ",
    "/home/user/keys.kdbx": "/home/user/passwords.txt",
    "/home/user/Documents": "/home/user",
    ".venv/bin/qbackup ": "qbackup ",
    " examples/sample": f" {ROOT}/examples/sample",
}
PAGES = ROOT / "docs"
README = ROOT / "README.md"


def stood_in(text: str) -> str:
    """README's code as it can run on the sample."""
    for name, real in STAND_INS.items():
        text = text.replace(name, real)
    return text
