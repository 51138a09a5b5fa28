"""JSON documents for programs: the parts that several commands share."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, TypeAlias

from qbackup.base.errors import MachineError, QBackupError
from qbackup.base.names import json_name
from qbackup.base.report import FileResult, Report, UnprovenFiles
from qbackup.formats.header import BackupHeader

Document: TypeAlias = dict[str, Any]
SCHEMA = 1


def to_json(document: Document) -> str:
    """Writes one JSON document, pure ASCII, with its schema's number."""
    return to_text({"schema": SCHEMA, **document})


def to_text(document: Document) -> str:
    """Writes a part of a JSON document, pure ASCII."""
    return json.dumps(document, indent=1)


def error_document(error: QBackupError, results: str) -> Document:
    """The document of a command that failed, with what was done until then if that is known.

    Args:
        error: the reason.
        results: the list that the command's document has, empty here; ``""`` for none.
    """
    kind = type(error).__name__
    document = _failure(str(error), kind, results)
    if error.advice:
        document["advice"] = error.advice
    if isinstance(error, MachineError) and error.report is not None:
        return {**document, **report_document(error.report), **_failure(str(error), kind, "")}
    return document


def ended_document(how: str, results: str) -> Document:
    """The document of a command that a signal ended; `results` as in `error_document`."""
    return _failure(how, how, results)


def _failure(error: str, kind: str, results: str) -> Document:
    document: Document = {"ok": False, "error": _unicode(error), "kind": kind}
    if results:
        document[results] = []
    return document


def _unicode(text: str) -> str:
    """Text that is valid Unicode: a name from the command line need not be."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def named(key: str, name: str) -> Document:
    """Gives what `json_name` gives, under another key."""
    return {kind.replace("name", key): value for kind, value in json_name(name).items()}


def with_errors(document: Document, errors: Sequence[str]) -> Document:
    """Adds ``"error"`` where there is one."""
    return {**document, "error": "; ".join(errors)} if errors else document


def header_document(header: BackupHeader) -> Document:
    """The values of a header as valid Unicode: a filter may be any string."""
    return {
        key: json_name(value)["name"] if isinstance(value, str) else value
        for key, value in dataclasses.asdict(header).items()
    }


def report_document(report: Report) -> Document:
    """The document of `verify`, `restore` and `cp`."""
    document: Document = {
        "ok": report.ok,
        "files": [_result_document(result) for result in report.files],
        "warnings": list(report.warnings),
    }
    if not report.ok:
        document["verdict"] = report.verdict
    if report.unproven:
        document["unproven"] = [_unproven_document(files) for files in report.unproven]
    if report.advice:
        document["advice"] = list(report.advice)
    return with_errors(document, report.errors)


def _result_document(result: FileResult) -> Document:
    document: Document = {
        "qube": json_name(result.qube)["name"],
        **json_name(result.name),
        "status": result.status,
        "error": result.error,
        "chunks": result.chunks,
        "size": result.size,
    }
    if result.unproven:
        document["unproven"] = True
    if result.notes:
        document["notes"] = list(result.notes)
    if result.limit is not None:
        document["limit"] = result.limit
    if result.advice:
        document["advice"] = result.advice
    if result.restored_as is not None:
        document["restored_as"] = json_name(result.restored_as)["name"]
    return {**document, **_damage_document(result)}


def _unproven_document(files: UnprovenFiles) -> Document:
    first = _result_document(files.first)
    del first["unproven"]
    return {"status": files.status, "count": files.count, "first": first}


def _damage_document(result: FileResult) -> Document:
    """The losses of a damaged file, where they were looked for."""
    document: Document = {}
    if result.kept_as is not None:
        document["kept_as"] = json_name(result.kept_as)["name"]
    if result.unplaced_size:
        document["unplaced_size"] = result.unplaced_size
    if result.unplaced_as is not None:
        document["unplaced_as"] = json_name(result.unplaced_as)["name"]
    if result.unverified_as is not None:
        document["unverified_as"] = json_name(result.unverified_as)["name"]
        document["unverified"] = [dataclasses.asdict(part) for part in result.unverified]
        document["unverified_left_out"] = result.unverified_left_out
    if result.ranges:
        document["ranges"] = [dataclasses.asdict(part) for part in result.ranges]
        document["unplaced"] = result.unplaced
    if result.lost_chunks:
        document["lost_chunks"] = list(result.lost_chunks)
    if result.lost_places:
        document["lost_places"] = [dataclasses.asdict(place) for place in result.lost_places]
    if result.ranges_left_out:
        document["ranges_left_out"] = result.ranges_left_out
    if result.ranges_as is not None:
        document["ranges_as"] = json_name(result.ranges_as)["name"]
    return document
