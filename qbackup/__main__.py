"""Entry point of ``python -m qbackup`` and of the script ``qbackup``.

Loading the other modules takes some hundredths of a second, and Ctrl-C may come then. So signals
are held first of all, with modules that are built into the interpreter, until the command line can
handle them.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` itself first loads enum and more
import os
import sys

TYPE_CHECKING = False  # type checkers know the name; loading `typing` for it takes time
if TYPE_CHECKING:
    from collections.abc import Callable


def main(prepare: Callable[[], None] | None = None) -> int:
    """Runs the command line of this process; returns the exit status.

    Args:
        prepare: called before the command line is loaded, with signals held too.
    """
    held = _hold_signals()
    if prepare is not None:
        prepare()
    from qbackup.cli.main import main as run

    return run(held=held)


def _hold_signals() -> list[int]:
    """Holds signals: the first one goes into the list, a second one ends the program at once."""
    held: list[int] = []

    def hold(number: int, frame: object) -> None:
        if held:
            os._exit(128 + number)  # nothing has begun that would need an orderly end
        held.append(number)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(_signal, name, None)
        if number is not None and _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, hold)
    return held


if __name__ == "__main__":
    sys.exit(main())
