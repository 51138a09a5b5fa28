"""Bytes of a file from its extents: holes of every length become zeros."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from qbackup.base.errors import Damaged
from qbackup.base.events import Extent
from qbackup.content.stream import filled

ZEROS = 256 * 1024  # bytes that are given at once at most


def test_a_hole_gives_as_many_zeros_as_it_is_long() -> None:
    holes = (1, ZEROS - 1, ZEROS, ZEROS + 1, 3 * ZEROS + 5)
    extents, expected, offset = [], [], 0
    for length in holes:
        extents += [Extent(offset, 2, memoryview(b"ab")), Extent(offset + 2, length, None)]
        expected.append(b"ab" + bytes(length))
        offset += 2 + length

    @contextmanager
    def content() -> Iterator[Any]:
        yield SimpleNamespace(extents=lambda: iter(extents))

    pieces = list(filled(content))
    assert b"".join(pieces) == b"".join(expected)
    assert max(map(len, pieces)) == ZEROS


def test_the_end_comes_after_the_check_of_it() -> None:
    @contextmanager
    def content() -> Iterator[Any]:
        yield SimpleNamespace(extents=lambda: iter([Extent(0, 2, memoryview(b"ab"))]))
        raise Damaged("it is cut off")

    pieces = filled(content)
    assert bytes(next(pieces)) == b"ab"
    with pytest.raises(Damaged):
        next(pieces)
