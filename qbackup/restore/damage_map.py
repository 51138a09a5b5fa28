"""Good and lost bytes of a damaged image, as they are kept beside the image.

``NAME.damaged.json`` is for programs, and `ls`, `cp` and `cat` read it. ``NAME.damaged.map`` says
the same to GNU ddrescue and its relatives; the manual of ddrescue has the form of a map file
("Mapfile structure"). Both are ASCII text.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

VERSION = 1
_KIND = "damaged image"
_BYTES_FOR_EACH = 256  # of the file, at most, for each of the ranges that a limit allows
_FINISHED, _BAD = "+", "-"  # as ddrescue writes them

Range: TypeAlias = tuple[int, int]  # offset and length in bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DamageMap:
    """Every byte of a damaged image, in one of three lists of ranges.

    Args:
        size: length of the image in bytes.
        good: verified data.
        holes: verified, and not stored, as all of it is zeros.
        lost: lost bytes; zeros stand in their place.
        in_backup: for each of `lost`, the range of the backup's file with the chunks whose loss
            is the reason; None where that is not known.
        lost_chunks: each lost chunk, with the reason, as in a report.
        left_out: number of further ranges, which are part of the last one here, as lost bytes.
    """

    size: int
    good: tuple[Range, ...]
    holes: tuple[Range, ...]
    lost: tuple[Range, ...]
    in_backup: tuple[Range | None, ...]
    lost_chunks: tuple[str, ...] = ()
    left_out: int = 0

    def to_json(self) -> bytes:
        """Writes the content of ``NAME.damaged.json``, a line for each value."""
        values = {
            "kind": _KIND,
            "version": VERSION,
            "size": self.size,
            "good": self.good,
            "holes": self.holes,
            "lost": self.lost,
            "in_backup": self.in_backup,
            "lost_chunks": self.lost_chunks,
            "left_out": self.left_out,
        }
        lines = (f' "{name}": {json.dumps(value)}' for name, value in values.items())
        return ("{\n" + ",\n".join(lines) + "\n}\n").encode("ascii")

    def to_map(self) -> bytes:
        """Writes the content of ``NAME.damaged.map``, neighbours of one state in one line."""
        lines = [
            "# Mapfile of a damaged image, in the form of GNU ddrescue: - is lost, + is good",
            "# current_pos  current_status  current_pass",
            f"0x{self.size:08X}     {_FINISHED}               1",
            "#      pos        size  status",
        ]
        states = [(at, size, _BAD) for at, size in self.lost]
        states += [(at, size, _FINISHED) for at, size in (*self.good, *self.holes)]
        for status, group in itertools.groupby(sorted(states), lambda state: state[2]):
            parts = list(group)
            start, end = parts[0][0], parts[-1][0] + parts[-1][1]
            lines.append(f"0x{start:08X}  0x{end - start:08X}  {status}")
        return ("\n".join(lines) + "\n").encode("ascii")


def text_limit(ranges: int) -> int:
    """Gives the length in bytes that a ``NAME.damaged.json`` with so many ranges may have."""
    return 65536 + ranges * _BYTES_FOR_EACH


def parse_lost(text: bytes, size: int) -> list[Range]:
    """Reads the lost ranges from the content of ``NAME.damaged.json``.

    Args:
        text: the content, which anybody can have written.
        size: length of the image.

    Raises:
        ValueError: this is something else, or of another image; the text is for people.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON") from None
    if not isinstance(values, dict) or values.get("kind") != _KIND:
        raise ValueError("it is not about a damaged image")
    if values.get("version") != VERSION or isinstance(values["version"], bool):
        raise ValueError("its version is not known here")
    if values.get("size") != size:
        raise ValueError("it is of an image of another length")
    lists = {name: list(_ranges(values.get(name))) for name in ("good", "holes", "lost")}
    end = 0
    for at, length in sorted(itertools.chain(*lists.values())):
        if at != end:
            raise ValueError("its ranges do not fit together")
        end = at + length
    if end != size:
        raise ValueError("its ranges do not fit together")
    return sorted(lists["lost"])


def _ranges(untrusted_list: Any) -> Iterator[Range]:
    if not isinstance(untrusted_list, list):
        raise ValueError("a list of ranges is missing")
    for pair in untrusted_list:
        is_pair = isinstance(pair, list) and len(pair) == 2
        if not is_pair or not all(type(number) is int and number >= 0 for number in pair):
            raise ValueError("a range is no offset and length")
        yield pair[0], pair[1]


def without_holes(ranges: Sequence[Range], holes: Sequence[Range]) -> Iterator[Range]:
    """Cuts holes out of ranges; both sorted, each hole within one range."""
    left = iter(holes)
    hole = next(left, None)
    for start, length in ranges:
        end = start + length
        while hole is not None and hole[0] < end:
            if hole[0] > start:
                yield start, hole[0] - start
            start = hole[0] + hole[1]
            hole = next(left, None)
        if start < end:
            yield start, end - start
