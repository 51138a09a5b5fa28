"""`NAME.damaged.json` and `NAME.damaged.map`: their form, and what is believed of the first."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from qbackup.base.report import LostPlace
from qbackup.restore.damage_map import DamageMap, parse_lost, without_holes
from qbackup.restore.ranges import Ranges
from tests.support import programs
from tests.support.speed import rows

MAP = DamageMap(
    size=0x30000,
    good=((0, 4096), (8192, 4096), (0x20000, 100)),
    holes=((4096, 4096), (0x20064, 0x30000 - 0x20064)),
    lost=((12288, 0x20000 - 12288),),
    in_backup=((3206656, 1048704),),
    lost_chunks=("vm1/private.img.003: the MAC differs",),
)
JSON = b"""\
{
 "kind": "damaged image",
 "version": 1,
 "size": 196608,
 "good": [[0, 4096], [8192, 4096], [131072, 100]],
 "holes": [[4096, 4096], [131172, 65436]],
 "lost": [[12288, 118784]],
 "in_backup": [[3206656, 1048704]],
 "lost_chunks": ["vm1/private.img.003: the MAC differs"],
 "left_out": 0
}
"""
MAPFILE = b"""\
# Mapfile of a damaged image, in the form of GNU ddrescue: - is lost, + is good
# current_pos  current_status  current_pass
0x00030000     +               1
#      pos        size  status
0x00000000  0x00003000  +
0x00003000  0x0001D000  -
0x00020000  0x00010000  +
"""


def test_the_form_is_stable() -> None:
    """Programs of others read both."""
    assert MAP.to_json() == JSON
    assert MAP.to_map() == MAPFILE
    assert parse_lost(JSON, 0x30000) == [(12288, 118784)]


@pytest.mark.slow
def test_ddrescuelog_reads_the_map(tmp_path: Path) -> None:
    programs.need("ddrescuelog")
    path = tmp_path / "map"
    path.write_bytes(MAPFILE)
    done = subprocess.run(
        ["ddrescuelog", "-b", "1", "-l", "-", path], capture_output=True, text=True, check=True
    )
    blocks = [int(line) for line in done.stdout.split()]
    assert blocks == list(range(12288, 0x20000))
    assert subprocess.run(["ddrescuelog", "-D", path]).returncode == 1  # not all is rescued


def changed(**values: Any) -> bytes:
    return json.dumps({**json.loads(JSON), **values}).encode()


@rows(
    ("text", "reason"),
    [
        (b"", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"\xff", "no JSON"),
        (b"[]", "not about"),
        (changed(kind="x"), "not about"),
        (changed(version=2), "version"),
        (changed(version=True), "version"),
        (changed(version=[]), "version"),
        (changed(size=5), "another length"),
        (changed(lost=None), "missing"),
        (changed(lost=[]), "fit together"),
        (changed(lost=[[12288, 118783]]), "fit together"),
        (changed(lost=[[12288, 118784], [12288, 118784]]), "fit together"),
        (changed(lost=[[12288.0, 118784]]), "no offset"),
        (changed(lost=[[12288, -1]]), "no offset"),
        (changed(lost=[[12288, True]]), "no offset"),
        (changed(lost=[[12288]]), "no offset"),
        (changed(lost=[12288]), "no offset"),
        (changed(good=[[0, 10**400]]), "fit together"),
    ],
)
def test_what_makes_no_sense_is_not_believed(text: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_lost(text, 0x30000)


def test_holes_are_cut_out_of_what_is_good() -> None:
    assert list(without_holes([(0, 10), (20, 10)], [(0, 2), (5, 1), (28, 2)])) == [
        (2, 3),
        (6, 4),
        (20, 8),
    ]


class TestRanges:
    PLACES = (LostPlace("a.000", 512, 1000), LostPlace("a.001", 2048, 1000))

    def test_each_lost_range_has_the_place_of_its_chunks(self) -> None:
        ranges = Ranges(10)
        ranges.add(10, good=True)
        ranges.add(5, good=False, cause="a.000")
        ranges.add(5, good=False, cause="a.001")
        ranges.add(7, good=True, is_hole=True)
        ranges.add(3, good=False, cause="b.000")
        found = ranges.as_map(32, (), self.PLACES)
        assert found.lost == ((10, 10), (27, 3), (30, 2))
        assert found.in_backup == ((512, 2536), None, None)
        assert (found.good, found.holes) == (((0, 10),), ((20, 7),))
        assert parse_lost(found.to_json(), 32) == [(10, 10), (27, 3), (30, 2)]

    @rows("limit", [1, 2, 3, 4, 5])
    def test_past_the_limit_no_lost_byte_is_good(self, limit: int) -> None:
        ranges = Ranges(limit)
        for _ in range(5):
            ranges.add(1, good=True)
            ranges.add(1, good=True, is_hole=True)
            ranges.add(1, good=False)
        found = ranges.as_map(15, (), ())
        lost = parse_lost(found.to_json(), 15)  # raises unless all fits together
        assert {at for at, length in lost for at in range(at, at + length)} >= {2, 5, 8, 11, 14}
        assert found.left_out == ranges.left_out == 10 - limit
        assert len(ranges.of(15, lost="lost")) == limit

    def test_what_is_left_out_is_counted_once(self) -> None:
        ranges = Ranges(2)
        for good in (True, False, False, True, True, False, True):
            ranges.add(1, good=good)
            ranges.add(1, good=good, is_hole=good)
        assert ranges.left_out == 3
        assert [part.end for part in ranges.of(14, lost="lost")] == [2, 14]
