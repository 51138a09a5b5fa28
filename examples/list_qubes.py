"""Lists the qubes of a backup: `python list_qubes.py BACKUP PASSPHRASE_FILE`."""

import sys
from pathlib import Path

import qbackup


def main(backup_path: str, passphrase_path: str) -> None:
    """Prints each qube with its files and their stored sizes."""
    passphrase = Path(passphrase_path).read_bytes().rstrip(b"\r\n")
    with qbackup.open(backup_path, passphrase=passphrase) as backup:
        print("backup", backup.header.backup_id, "format", backup.header.version)
        for qube in backup.qubes:
            print(qube.name, qube.klass, qube.label)
            for file in qube.files:
                print("   ", file.name, file.stored_size, "bytes in", len(file.chunks), "chunks")


if __name__ == "__main__":
    main(*sys.argv[1:])
