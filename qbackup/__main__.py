"""Entry point of ``python -m qbackup`` and of the script ``qbackup``.

Loading the other modules takes some hundredths of a second, and Ctrl-C may come then. So signals
are held first of all, with modules that are built into the interpreter, until the command line can
handle them.

``python -m`` puts the current folder in front of the path. That may be a stick with an ``xml.py``
or a ``Crypto/`` beside the backup. So the folder leaves the path before anything is loaded that is
not in the interpreter already, ``__future__`` included. This package is found without it.
"""

import _signal  # type: ignore[import-not-found]  # `signal` itself first loads enum and more
import os
import sys

TYPE_CHECKING = False  # type checkers know the name; loading `typing` for it takes time
if TYPE_CHECKING:
    from collections.abc import Callable


def main(prepare: "Callable[[], None] | None" = None) -> int:
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


def _leave_current_folder() -> None:
    """Drops the entry of the path that `python -m` made; `python -P` and `-I` make none."""
    if sys.flags.isolated or getattr(sys.flags, "safe_path", False):
        return
    try:
        current = os.getcwd()
    except OSError:  # the folder was removed, and Python left the entry out
        return
    if sys.path[:1] == [current]:
        del sys.path[0]


if __name__ == "__main__":
    if __package__:
        _leave_current_folder()
    sys.exit(main())
