"""Lists dom0's home without writing it: `python walk_home.py BACKUP PASSPHRASE_FILE`."""

import sys
from pathlib import Path

import qbackup


def main(backup_path: str, passphrase_path: str) -> None:
    """Prints kind, mode, size and path of every entry."""
    passphrase = Path(passphrase_path).read_bytes().rstrip(b"\r\n")
    with qbackup.open(backup_path, passphrase=passphrase) as backup:
        for file in backup.files:
            if not file.is_folder:
                continue
            for entry in file.entries():
                target = f" -> {entry.target!r}" if entry.target else ""
                print(f"{entry.kind:8} {entry.mode:04o} {entry.size:8} {entry.path!r}{target}")


if __name__ == "__main__":
    main(*sys.argv[1:])
