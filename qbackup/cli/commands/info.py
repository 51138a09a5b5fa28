"""`qbackup info`: the header, and the cost of a restore here; works without the passphrase."""

from __future__ import annotations

import argparse

from qbackup.cli import output
from qbackup.cli.arguments import add_backup, add_common, add_passphrase

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qbackup.archive.archive import BackupArchive
    from qbackup.archive.estimate import Cost
    from qbackup.cli.documents import Document
    from qbackup.formats.header import BackupHeader

EXAMPLES = """\
  qbackup info BACKUP                        no passphrase needed
  qbackup info BACKUP -p FILE                the same, authenticated
"""

_SHOWN_VALUE = 200  # characters of a header's value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments and options to its parser."""
    add_backup(parser)
    add_passphrase(parser)
    add_common(parser, json=True)


def run(options: argparse.Namespace) -> int:
    """Prints what is known of the backup; returns the exit status."""
    from qbackup.cli.documents import to_json
    from qbackup.cli.passphrase import unlock
    from qbackup.cli.report import print_errors, print_warnings
    from qbackup.cli.unlocked import (
        open_backup,
        passphrase_request,
        print_backends,
        repair_advised,
    )

    request = passphrase_request(options)
    with repair_advised(options), open_backup(options) as archive:
        if request.is_given:
            unlock(archive, request, quiet=options.quiet, window=options.backup_id_window)
        print_backends(options, archive)
        cost = archive.estimate()
        print_warnings(archive.warnings)
        if options.json:
            output.print_result(to_json(_document(archive, cost)))
        else:
            output.print_result(_text(archive, cost))
        return print_errors(archive.errors)


def _any_header(archive: BackupArchive) -> BackupHeader | None:
    """The header, authenticated or not; None where salvage found none.

    Raises:
        HeaderAltered: the header is not authenticated, and can't be understood.
    """
    from qbackup.base.errors import Unlockable, Unreadable

    if archive.is_unlocked:
        return archive.header
    try:
        return archive.untrusted_header
    except (Unlockable, Unreadable):
        if not archive.salvaged:
            raise
        return None


def _document(archive: BackupArchive, cost: Cost) -> Document:
    from qbackup.cli.documents import header_document, with_errors

    header = _any_header(archive)
    document: Document = {
        "authenticated": archive.is_unlocked,
        "header": header_document(header) if header else None,
        "members": cost.members,
        "chunks": cost.chunks,
        "stored_size": cost.stored_size,
        "unreadable_chunks": cost.unreadable,
        "scrypt": [
            {"log2_n": p.log2_n, "n": p.n, "r": p.r, "p": p.p, "chunks": count}
            for p, count in cost.parameters.items()
        ],
        "estimate": {
            "seconds": round(cost.seconds, 1),
            "memory": cost.memory,
            "disk": cost.disk,
        },
        "warnings": list(archive.warnings),
    }
    if cost.others:
        document["other_parameters"] = cost.others
    if archive.caveats:
        document["not_promised"] = list(archive.caveats)
    return with_errors(document, archive.errors)


def _text(archive: BackupArchive, cost: Cost) -> str:
    from qbackup.base.names import display

    rows = [
        *_header_rows(archive),
        *_archive_rows(cost),
        ("a restore here", _cost_text(cost, is_exact=archive.is_unlocked)),
        *(("not promised", caveat) for caveat in archive.caveats),
    ]
    return "\n".join(f"{name + ':' if name else '':16}{display(value)}" for name, value in rows)


def _header_rows(archive: BackupArchive) -> list[tuple[str, str]]:
    header = _any_header(archive)
    if header is None:
        return [("header", "can't be read")]
    trust = "authenticated" if archive.is_unlocked else "NOT authenticated: no passphrase was given"
    return [
        ("format", f"{header.version}  ({trust})"),
        *([("backup id", header.backup_id[:_SHOWN_VALUE])] if header.backup_id else []),
        ("compression", _compression(header)),
        *_algorithms(header),
    ]


def _archive_rows(cost: Cost) -> list[tuple[str, str]]:
    from qbackup.cli.progress import human_size

    rows = [
        ("members", f"{cost.members}, of them {_count(cost.chunks)}"),
        ("stored", human_size(cost.stored_size)),
        *(("scrypt", f"{p}: {_count(n)}") for p, n in cost.parameters.items()),
    ]
    if cost.others:
        rows.append(("", f"further parameters: {_count(cost.others)}, not in the estimate"))
    if cost.unreadable:
        rows.append(("damaged", f"{_count(cost.unreadable)} without a readable header"))
    return rows


def _cost_text(cost: Cost, *, is_exact: bool) -> str:
    from qbackup.cli.progress import human_size, human_time

    return (
        f"about {human_time(cost.seconds)}, {human_size(cost.memory)} of memory,"
        f" {'' if is_exact else 'at least '}{human_size(cost.disk)} of disk"
    )


def _compression(header: BackupHeader) -> str:
    if header.compression_filter is None:
        return "none"
    return header.compression_filter[:_SHOWN_VALUE] or "by a program that is not named"


def _algorithms(header: BackupHeader) -> list[tuple[str, str]]:
    """Cipher and digest, where the format leaves a choice."""
    if header.crypto_algorithm is None:
        return []
    cipher = header.crypto_algorithm if header.encrypted else "none"
    return [("encryption", cipher), ("authentication", f"HMAC with {header.hmac_algorithm}")]


def _count(chunks: int) -> str:
    return f"{chunks} chunk{'' if chunks == 1 else 's'}"
