"""Where the kit's program begins. Any Python must be able to read this file, to be told why not."""

import sys

OLDEST = (3, 10)


def main():  # type: ignore[no-untyped-def]
    """Returns the exit status."""
    if sys.version_info < OLDEST:
        sys.stderr.write(
            "qbackup: this is Python %d.%d, and %d.%d or newer is needed\n"  # noqa: UP031
            % (sys.version_info[:2] + OLDEST)
        )
        return 5
    from qbackup.cli.kit.launch import launch

    return launch(sys.argv[0])
