"""``python -m qbackup``, and where the script ``qbackup`` begins.

Loading the rest takes some hundredths of a second, and Ctrl-C may come in them. So first of
all, and with no module that is not part of the interpreter, signals are held until there is
somebody who can say what they mean.
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
        prepare: what has to be done before, with signals held too.
    """
    held = _hold_signals()
    if prepare is not None:
        prepare()
    from qbackup.cli.main import main as run

    return run(held=held)


def _hold_signals() -> list[int]:
    """From now on the first signal goes into the list; a second one ends the program at once."""
    held: list[int] = []

    def hold(number: int, frame: object) -> None:
        if held:
            os._exit(128 + number)  # nothing was begun that would have to be undone
        held.append(number)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(_signal, name, None)
        if number is not None and _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, hold)
    return held


if __name__ == "__main__":
    sys.exit(main())
