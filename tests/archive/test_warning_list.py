"""Warnings are kept in order, and a hostile backup can't make the list long."""

from __future__ import annotations

from qbackup.archive.warning_list import WarningList


def test_warnings_are_kept_in_order() -> None:
    warnings = WarningList()
    for text in ("b", "a", "b"):
        warnings.add(text)
    assert warnings.texts == ["b", "a", "b"]


def test_the_list_has_a_bound_and_says_so_once() -> None:
    warnings = WarningList()
    for number in range(5000):
        warnings.add(str(number))
    assert len(warnings.texts) == 1001
    assert warnings.texts[999] == "999"
    assert warnings.texts[-1] == "more warnings follow, which are left out"
