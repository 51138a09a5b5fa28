"""Verifies a backup with a Dask cluster's help: `python dask_cluster.py [BACKUP FILE [ADDRESS]]`.

FILE holds the passphrase; without arguments it is the sample backup beside this file. Without
the ADDRESS of a scheduler, two processes on this machine are the cluster. Needs
`pip install distributed` here, and qbackup and llvmlite on every worker.

The workers learn neither passphrase nor data, but enough to test guesses of the passphrase:
use workers that you trust, and TLS between them and you. For a command instead of a program:
`qbackup verify BACKUP --dask ADDRESS`.
"""

import contextlib
import sys
from pathlib import Path

from distributed import Client, LocalCluster

import qbackup

HERE = Path(__file__).parent


def main(
    backup_path: str = f"{HERE}/sample-backup",
    passphrase_path: str = f"{HERE}/sample-passphrase.txt",
    address: str | None = None,
) -> None:
    """Prints what came of it; raises qbackup.Incomplete if anything is damaged."""
    passphrase = Path(passphrase_path).read_bytes().rstrip(b"\r\n")
    with contextlib.ExitStack() as stack:
        if address is None:
            cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
            address = stack.enter_context(cluster).scheduler_address
        client = stack.enter_context(Client(address))
        backup = stack.enter_context(
            qbackup.open(backup_path, passphrase=passphrase, executor=client.get_executor())
        )
        print(backup.verify().summary())


if __name__ == "__main__":
    main(*sys.argv[1:])
