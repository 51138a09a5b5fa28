"""The one warning on files beyond whose ends there are chunks of another backup."""

from __future__ import annotations

from qbackup.pipeline.foreign_chunks import ForeignChunks


def test_names_three_files_and_counts_the_others() -> None:
    notes: dict[str, str] = {}
    found = ForeignChunks(notes.__setitem__)
    for number in (1, 2, 2, 3):
        found.found(f"vm{number}/a\x1b")
    (text,) = notes.values()
    assert "end of vm1/a\\x1b, vm2/a\\x1b, vm3/a\\x1b there" in text
    for number in range(9):
        found.found(f"vm{number}/a\x1b")
    (text,) = notes.values()
    assert "vm3/a\\x1b and 6 more files there" in text
