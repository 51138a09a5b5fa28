"""``qubes.xml``, how it says that qubes were set up, and where the files that it names go; and the
same bytes as a ``firewall.xml``.
"""

from __future__ import annotations

import contextlib
from xml.etree import ElementTree

from qbackup.errors import QBackupError
from qbackup.metadata import QubeRecord, QubeTable, parse_known_qubes, parse_qubes_xml
from qbackup.metadata.firewall import parse_firewall
from qbackup.names import is_own, unsafe_reason, without_dot
from qbackup.restore.plan import Plan
from qbackup.script.words import NoWord, Words
from tests.fuzz.common import LIMITS, outcome


def check(data: bytes) -> None:
    """Qubes are told apart, written anew they are the same, no file of theirs goes elsewhere."""
    outcome(lambda: parse_firewall(data, LIMITS))
    records = outcome(lambda: parse_qubes_xml(data, LIMITS))
    if isinstance(records, QBackupError):
        return
    assert len(records) <= LIMITS.qubes
    assert len({record.name for record in records}) == len(records)
    assert len({record.backup_path for record in records}) == len(records)
    for record in records:
        assert record.name
        assert record.backup_path or record.name == "dom0"  # which R2 leaves out of its list
        assert record.size is None or 0 <= record.size < 10**20
    _check_written_anew(data, records)
    _check_targets(records)
    _check_settings(data, records)


def _check_settings(data: bytes, records: tuple[QubeRecord, ...]) -> None:
    """Every qube of the backup is known, and each value can be a word of a script or has a NUL."""
    known = parse_known_qubes(data, LIMITS)
    assert [q.record for q in known if q.in_backup] == [r for r in records if r.is_listed]
    assert len({qube.record.name for qube in known}) == len(known)
    for qube in known:
        values = (*qube.settings.properties.values(), *qube.settings.features.values())
        for text in (*values, *qube.settings.tags):
            with contextlib.suppress(NoWord):
                assert Words().word(text).isprintable()


def _check_written_anew(data: bytes, records: tuple[QubeRecord, ...]) -> None:
    text = ElementTree.tostring(ElementTree.fromstring(data), encoding="utf-8")
    if len(text) <= LIMITS.metadata and b"\r" not in data and b"&#" not in data:
        assert parse_qubes_xml(text, LIMITS) == records


def _check_targets(records: tuple[QubeRecord, ...]) -> None:
    table = QubeTable(records)
    placed = [record for record in records if record.backup_path]
    paths = [f"{r.backup_path}/{file}" for r in placed for file in ("private.img", *r.required)]
    paths += [record.backup_path for record in placed]
    plan = Plan(table, (), paths)
    for path in paths:
        target = plan.target(path)
        if target is None or target.unsafe:
            continue
        assert (
            unsafe_reason("/".join(filter(None, (target.qube, without_dot(target.name))))) is None
        )
        assert "/" not in target.qube
        assert not is_own(target.qube)
        record = next(r for r in placed if r.name == target.qube)
        assert path == record.backup_path or path.startswith(f"{record.backup_path}/")
        assert table.path_of(target.qube, target.name) == path
    plan.missing(set())
