"""Start of the kit's program. Every Python 3 can read this file, so an old one can say why not."""

import sys

OLDEST = (3, 10)


def main(run):  # type: ignore[no-untyped-def]
    """Runs the command line; returns the exit status.

    Args:
        run: the command line, called with what prepares it.
    """
    if sys.version_info < OLDEST:
        sys.stderr.write(
            "qbackup: this is Python %d.%d, and %d.%d or newer is needed\n"  # noqa: UP031
            % (sys.version_info[:2] + OLDEST)
        )
        return 5
    return run(_prepare)


def _prepare():  # type: ignore[no-untyped-def]
    from qbackup.cli.kit.launch import prepare

    prepare(sys.argv[0])
