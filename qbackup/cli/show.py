"""What a person reads and what a program reads: tables, and JSON documents.

Every text that came out of a backup passes `display` on its way to a terminal.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from qbackup.archive.archive import BackupArchive
from qbackup.archive.estimate import Cost
from qbackup.archive.firewalls import Firewall
from qbackup.archive.qube import Qube
from qbackup.base.errors import LimitExceeded, MachineError, QBackupError, Unlockable, Unreadable
from qbackup.base.names import display, json_name
from qbackup.base.report import ByteRange, FileResult, Report
from qbackup.cli.known import NOT_IN_BACKUP, firewall_errors, settings_document
from qbackup.cli.progress import human_size, human_time
from qbackup.formats.header import BackupHeader

Document: TypeAlias = dict[str, Any]
SCHEMA = 1
_SHOWN = 20
_SHOWN_VALUE = 200  # characters of a header's value


def to_json(document: Document) -> str:
    """One JSON document, pure ASCII, with its schema's number."""
    return json.dumps({"schema": SCHEMA, **document}, indent=1)


def error_document(error: QBackupError, command: str) -> Document:
    """What every failing command says; with what was done until then, where that is known."""
    kind = type(error).__name__
    document = _failure(str(error), kind, command)
    if error.advice:
        document["advice"] = error.advice
    if isinstance(error, MachineError) and error.report is not None:
        return {**document, **report_document(error.report), **_failure(str(error), kind, "")}
    return document


def ended_document(how: str, command: str) -> Document:
    """What every command says that a signal ended."""
    return _failure(how, how, command)


def _failure(error: str, kind: str, command: str) -> Document:
    document: Document = {"ok": False, "error": _text(error), "kind": kind}
    if command in ("verify", "restore", "cp"):
        document["files"] = []
    if command == "ls":
        document["entries"] = []
    return document


def _text(text: str) -> str:
    """Text that is valid Unicode: a name from the command line need not be."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def named(key: str, name: str) -> Document:
    """Gives what `json_name` gives, under another key."""
    return {kind.replace("name", key): value for kind, value in json_name(name).items()}


def local_time(time_ns: int) -> str:
    """Date and time of day here, in 16 characters, from nanoseconds since 1970."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(time_ns // 10**9))
    except (OverflowError, ValueError, OSError):  # years that this machine does not have
        return "?".ljust(16)


def archive_errors(archive: BackupArchive) -> list[str]:
    """What keeps the archive from being whole, as far as looking at it tells."""
    error = archive.catalog.error
    if error is None:
        return list(archive.salvaged)
    advice = f"; {error.advice}" if isinstance(error, LimitExceeded) else ""
    return [*archive.salvaged, f"{error}{advice}"]


def list_errors(
    archive: BackupArchive, qubes: Sequence[Qube], firewalls: Mapping[str, Firewall]
) -> list[str]:
    """Errors of the archive, missing files, and firewall rules that can't be read."""
    missing = any(missing_files(qube) for qube in qubes)
    files = ["files are missing from this backup"] if missing else []
    return archive_errors(archive) + files + firewall_errors(firewalls)


def _with_errors(document: Document, errors: Sequence[str]) -> Document:
    return {**document, "error": "; ".join(errors)} if errors else document


def _header_document(header: BackupHeader) -> Document:
    """Values of the header as valid Unicode: a filter may be any string."""
    return {
        key: json_name(value)["name"] if isinstance(value, str) else value
        for key, value in dataclasses.asdict(header).items()
    }


# info


def info_document(archive: BackupArchive, cost: Cost) -> Document:
    """`info --json`."""
    header = _any_header(archive)
    document: Document = {
        "authenticated": archive.is_unlocked,
        "header": _header_document(header) if header else None,
        "members": archive.catalog.member_count(),
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
    if archive.door.caveats:
        document["not_promised"] = list(archive.door.caveats)
    return _with_errors(document, archive_errors(archive))


def _any_header(archive: BackupArchive) -> BackupHeader | None:
    """The header, authenticated or not; None where salvage found none.

    Raises:
        HeaderAltered: it is not authenticated, and can't be understood.
    """
    if archive.is_unlocked:
        return archive.header
    try:
        return archive.untrusted_header
    except (Unlockable, Unreadable):
        if not archive.salvaged:
            raise
        return None


def info_text(archive: BackupArchive, cost: Cost) -> str:
    """`info` for people."""
    header = _any_header(archive)
    trust = "authenticated" if archive.is_unlocked else "NOT authenticated: no passphrase was given"
    rows = [("header", "can't be read")]
    if header is not None:
        rows = [
            ("format", f"{header.version}  ({trust})"),
            *([("backup id", header.backup_id[:_SHOWN_VALUE])] if header.backup_id else []),
            ("compression", _compression(header)),
            *_algorithms(header),
        ]
    rows += [
        ("members", f"{archive.catalog.member_count()}, of them {_count(cost.chunks)}"),
        ("stored", human_size(cost.stored_size)),
    ]
    rows += [("scrypt", f"{p}: {_count(n)}") for p, n in cost.parameters.items()]
    if cost.unreadable:
        rows.append(("damaged", f"{_count(cost.unreadable)} without a readable header"))
    rows.append(
        (
            "a restore here",
            f"about {human_time(cost.seconds)}, {human_size(cost.memory)} of memory,"
            f" {'' if archive.is_unlocked else 'at least '}{human_size(cost.disk)} of disk",
        )
    )
    rows += [("not promised", caveat) for caveat in archive.door.caveats]
    return "\n".join(f"{name + ':':16}{display(value)}" for name, value in rows)


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


# list


def missing_files(qube: Qube) -> list[str]:
    """What should be there of a qube and is not; ``*`` when nothing is."""
    if not qube.in_backup:
        return []
    names = {_file_name(file.name) for file in qube.files}
    missing = [name for name in qube.required if name not in names]
    return missing or ([] if names else ["*"])


def _file_name(name: str) -> str:
    return name.partition("/")[2]


def list_document(
    archive: BackupArchive, qubes: Sequence[Qube], firewalls: Mapping[str, Firewall]
) -> Document:
    """`list --json`."""
    document: Document = {
        "header": _header_document(archive.header),
        "qubes": [_qube_document(qube, firewalls.get(qube.name)) for qube in qubes],
        "warnings": list(archive.warnings),
    }
    return _with_errors(document, list_errors(archive, qubes, firewalls))


def _qube_document(qube: Qube, firewall: Firewall | None) -> Document:
    return {
        "name": qube.name,
        "class": qube.klass,
        "label": qube.label,
        "template": qube.template,
        "netvm": qube.netvm,
        "size": qube.size,
        "files": [
            {
                **json_name(_file_name(file.name)),
                "chunks": file.chunk_count,
                "stored_size": file.stored_size,
            }
            for file in qube.files
        ],
        "missing": missing_files(qube),
        **settings_document(qube, firewall),
    }


def list_rows(qubes: Sequence[Qube]) -> list[tuple[str, ...]]:
    """Its cells, made visible, the first row as heads."""
    rows = [("QUBE", "CLASS", "LABEL", "TEMPLATE", "SIZE", "FILES")]
    for qube in qubes:
        files = [_file_name(file.name) for file in qube.files]
        files += [f"{name} IS MISSING" for name in missing_files(qube)]
        files += [] if qube.in_backup else [NOT_IN_BACKUP]
        size = human_size(qube.size) if qube.size is not None else "?" if qube.in_backup else "-"
        rows.append(
            (
                qube.name,
                qube.klass or "?",
                qube.label or "?",
                qube.template or "-",
                size,
                ", ".join(files),
            )
        )
    return [tuple(map(display, row)) for row in rows]


def table(shown: Sequence[Sequence[str]]) -> str:
    """Columns side by side, the first row as their heads."""
    widths = [max(len(row[i]) for row in shown) for i in range(len(shown[0]))]
    lines = ("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in shown)
    return "\n".join(line.rstrip() for line in lines)


# verify and restore


def report_document(report: Report) -> Document:
    """`verify --json`, `restore --json`."""
    document: Document = {
        "ok": report.ok,
        "files": [_result_document(result) for result in report.files],
        "warnings": list(report.warnings),
    }
    if report.advice:
        document["advice"] = list(report.advice)
    return _with_errors(document, report.errors)


def _result_document(result: FileResult) -> Document:
    document: Document = {
        "qube": json_name(result.qube)["name"],
        **json_name(result.name),
        "status": result.status,
        "error": result.error,
        "chunks": result.chunks,
        "size": result.size,
    }
    if result.notes:
        document["notes"] = list(result.notes)
    if result.limit is not None:
        document["limit"] = result.limit
    if result.advice:
        document["advice"] = result.advice
    if result.restored_as is not None:
        document["restored_as"] = json_name(result.restored_as)["name"]
    return {**document, **_damage_document(result)}


def _damage_document(result: FileResult) -> Document:
    """What is known of a damaged file, where that was looked for."""
    document: Document = {}
    if result.kept_as is not None:
        document["kept_as"] = json_name(result.kept_as)["name"]
    if result.ranges:
        document["ranges"] = [dataclasses.asdict(part) for part in result.ranges]
        document["unplaced"] = result.unplaced
    if result.lost_chunks:
        document["lost_chunks"] = list(result.lost_chunks)
    return document


def damage_text(result: FileResult) -> list[str]:
    """The same for people, line by line."""
    others = [chunk for chunk in result.lost_chunks if chunk != result.error]
    lines = [f"    lost too: {chunk}" for chunk in _some(others)]
    if result.ranges:
        of = " of the archive that it is stored in" if result.unplaced else ""
        lines.append(f"    bytes{of}: {', '.join(_some([_range(r) for r in result.ranges]))}")
    if result.unplaced and result.kept_as:
        lines.append(
            "    its beginning is lost, and with it the places of its bytes: what was kept is no"
            " image, but tools that search for files in raw data can read it"
        )
    if result.kept_as:
        lines.append(f"    what could be verified was kept as {display(result.kept_as)}")
    return lines


def _range(part: ByteRange) -> str:
    return f"{part.start}-{'?' if part.end is None else part.end} {part.state}"


def _some(texts: Sequence[str]) -> list[str]:
    """Not more than people want to read."""
    more = len(texts) - _SHOWN
    return [*texts[:_SHOWN], *([f"{more} more (see --json)"] if more > 0 else [])]


def _archive_text(report: Report) -> list[str]:
    """Lines on faults of the archive as a whole; the last may be a limit and no damage."""
    lines = [f"DAMAGED  the archive: {error}" for error in report.errors]
    if report.archive_limit:
        lines[-1] = f"LIMIT  the archive: {report.errors[-1]}"
    return lines


def report_text(report: Report, *, stopped: bool = False) -> str:
    """The final report for people: what is not whole first in words, then the sum.

    Args:
        report: what came of each file.
        stopped: the run did not come to its end, so even a good report is no success.
    """
    lines = []
    for result in report.files:
        name = display(f"{result.qube}/{result.name}" if result.qube else result.name)
        lines += [f"{name}: {note}" for note in result.notes]
        if not result.ok:
            lines.append(f"{result.status.upper()}  {name}: {result.error}")
            lines += damage_text(result)
    lines += _archive_text(report)
    lines += [f"what to do: {text}" for text in ([] if stopped else report.advice)]
    good = [result for result in report.files if result.ok]
    total = human_size(sum(result.size for result in good))
    bad = len(report.files) - len(good)
    kept = sum(result.status == "kept" and bool(result.qube) for result in good)
    if kept:
        total += f"; {kept} of them there before, and read again"
    if stopped:
        lines.append(f"STOPPED BEFORE THE END: {bad} not whole, {len(good)} whole ({total}).")
    elif report.ok:
        lines.append(f"All {len(good)} files are there, verified and whole ({total}).")
    else:
        lines.append(f"NOT EVERYTHING IS THERE: {bad} not whole, {len(good)} whole ({total}).")
    return "\n".join(lines)
