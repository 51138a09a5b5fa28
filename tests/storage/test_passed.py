"""Files that have come on a pipe are known for good, in little memory."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbackup.storage.catalog.passed import PassedFiles

NAMES = st.sampled_from(["a", "b/ü", "c\udcff", "vm1/private.img", *map(str, range(200))])


@given(st.lists(NAMES))
def test_are_found_as_in_a_dictionary(names: list[str]) -> None:
    passed, expected = PassedFiles(), dict[str, list[int]]()
    for index, name in enumerate(names):
        number = passed.find(name)
        if number is None:
            number = passed.add(name)
        passed.add_chunk(number, index, index + 1)
        expected.setdefault(name, []).append(index)
    assert list(passed) == list(expected)
    for number, (name, chunks) in enumerate(expected.items()):
        assert passed.find(name) == number and passed.path(number) == name
        assert name in passed and f"{name}x" not in passed
        figures = passed.counts[number], passed.sizes[number], passed.lasts[number]
        assert figures == (len(chunks), sum(chunks) + len(chunks), chunks[-1])


def test_text_that_no_bytes_make_is_not_there() -> None:
    assert "\ud800" not in PassedFiles()


def test_names_whose_hashes_are_the_same_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qbackup.storage.catalog.passed.hash", lambda name: -7, raising=False)
    passed = PassedFiles()
    assert [passed.add(f"file {number}") for number in range(100)] == list(range(100))
    assert [passed.find(f"file {number}") for number in range(100)] == list(range(100))
    assert passed.find("file") is None


def test_a_file_takes_less_than_a_hundred_bytes() -> None:
    tracemalloc.start()
    try:
        passed = PassedFiles()
        for number in range(20_000):
            passed.add(f"vm1/x{number:07}")
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 100 * 20_000
