"""First code of the kit's program. Every Python 3 can read it, so an old one can report its age."""

import sys

OLDEST = (3, 10)


def main(run):  # type: ignore[no-untyped-def]
    """Runs the command line; returns the exit status.

    Args:
        run: the command line; its argument is called before all else.
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
