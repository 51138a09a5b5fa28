"""Fuzzing: a harness for each parser that untrusted bytes reach.

A harness is a module here with one function, `check(data)`. It gives any bytes to the product
and returns if all is as it should be; an exception is a finding. What should be:

* nothing but `QBackupError` comes out of the product;
* one input takes less than a second, and no more memory than stated (`guard`);
* what can be said about the result without knowing the input holds, and where there is a second
  opinion (tarfile, zlib, another way to read the same), both agree wherever both accept.

A checksum, a hash or a MAC would stop nearly every mutation at the door, and an attacker can make
all of the former and, with a passphrase that he hands out, the latter. So harnesses try the bytes
as they are, and once more with these put right. Whole backups (`backup`, `old`) are sealed around
the input; in `salvage` an attacker knows no key, and nothing that was not backed up comes out.

`python -m tests.fuzz` runs them under atheris (libFuzzer's mutations, led by the coverage of
`qbackup`); `test_fuzz.py` gives each input of the committed corpus to its harness, without atheris.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import cast

CORPUS = Path(__file__).parent / "corpus"

#: A harness's name → the longest input that is tried, in bytes.
HARNESSES = {
    "backup": 8 * 1024,
    "container": 24 * 1024,
    "filters": 4 * 1024,
    "header": 512,
    "image": 2 * 1024,
    "inner": 16 * 1024,
    "journal": 4 * 1024,
    "metadata": 8 * 1024,
    "old": 8 * 1024,
    "openssl": 1024,
    "resync": 24 * 1024,
    "salvage": 512,
    "scrypt": 512,
    "tree": 16 * 1024,
    "volumes": 16 * 1024,
}

Check = Callable[[bytes], None]


def load(name: str) -> Check:
    """The `check` of one harness."""
    return cast(Check, importlib.import_module(f"tests.fuzz.{name}").check)


def corpus(name: str) -> list[Path]:
    """The committed inputs of one harness."""
    return sorted((CORPUS / name).iterdir())
