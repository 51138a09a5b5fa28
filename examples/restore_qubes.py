"""Restores qubes into a folder: `python restore_qubes.py BACKUP PASSPHRASE_FILE DIR [NAME...]`."""

import sys
from pathlib import Path

import qbackup


def show(progress: qbackup.Progress) -> None:
    """Called after every chunk."""
    print(f"{progress.done} of {progress.total} bytes, {progress.file}", file=sys.stderr)


def main(backup_path: str, passphrase_path: str, output: str, *names: str) -> int:
    """Says what is not whole, if anything is not."""
    passphrase = Path(passphrase_path).read_bytes().rstrip(b"\r\n")
    with qbackup.open(backup_path, passphrase=passphrase) as backup:
        try:
            report = backup.restore(output, names, progress=show)
        except qbackup.Incomplete as incomplete:
            for result in incomplete.report.bad:
                print(result.qube, result.name, result.status, result.error)
            return 1
    print(report.summary())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
