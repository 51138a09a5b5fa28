"""Backup ids that headers name: the copies' first, and never many."""

from __future__ import annotations

import pytest

from qbackup.archive.unlock.header_ids import collect_ids
from qbackup.formats.header import BackupHeader


def header(backup_id: str) -> BackupHeader:
    text = "version=4\nencrypted=True\ncompressed=False\nhmac-algorithm=scrypt\n"
    return BackupHeader.parse(f"{text}backup-id={backup_id}\n".encode())


def named(data: bytes) -> list[str]:
    return list(collect_ids({}, {0: data}))


@pytest.mark.parametrize(
    ("data", "ids"),
    [
        (b"", []),
        (b"version=4\nbackup-id=20240917T101112-1234\n", ["20240917T101112-1234"]),
        (b"backup_id=20240917T101112-1234\n", ["20240917T101112-1234"]),
        (b"  backup-id=with space \r\n", ["with space", "with"]),
        (b"\xff\x00\x01backup-id=20240917T101112-1234\xfe\xff", ["20240917T101112-1234"]),
        (b"backup-id=" + b"x" * 300 + b"\n", []),
        (b"backup-id=one\nbackup-id=two\n", ["one", "two"]),
    ],
)
def test_ids_are_found_in_damaged_headers_too(data: bytes, ids: list[str]) -> None:
    assert named(data) == ids


def test_four_are_enough() -> None:
    data = b"".join(b"backup-id=x%d\n" % number for number in range(1000))
    assert named(data) == ["x0", "x1", "x2", "x3"]


def test_ids_of_copies_come_first_and_all_count() -> None:
    copies = {1000 * number: header(f"copy{number}") for number in range(6)}
    found = collect_ids(copies, {0: b"backup-id=other\n"})
    assert list(found) == [f"copy{number}" for number in range(6)]


def test_each_id_has_the_offset_where_it_is_named_first() -> None:
    found = collect_ids(
        {5000: header("both")}, {4000: b"backup-id=both\n", 9000: b"backup-id=late\n"}
    )
    assert found == {"both": 4000, "late": 9000}
