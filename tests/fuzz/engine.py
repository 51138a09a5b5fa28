"""Runs one harness under atheris: `python -m tests.fuzz.engine NAME [LIBFUZZER-OPTION…] FOLDER…`.

A process of its own, as libFuzzer ends the one that it is in, and at the first finding.
"""

from __future__ import annotations

import sys

import atheris

from tests import fuzz
from tests.fuzz import guard


def main(name: str, options: list[str]) -> None:
    """Doesn't return."""
    with atheris.instrument_imports(include=["qbackup"]):
        check = fuzz.load(name)
    memory = guard.Memory(guard.MEMORY_MIB)

    def one_input(data: bytes) -> None:
        with guard.one_second():
            check(data)
        memory.check()

    atheris.Setup([sys.argv[0], f"-max_len={fuzz.HARNESSES[name]}", *options], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
