"""Warnings are kept in order, and a hostile backup can't make the list long."""

from __future__ import annotations

from qbackup.archive.warning_list import WarningList
from qbackup.base.notices import MemberWarning


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


def test_of_warnings_on_members_the_first_of_a_kind_are_kept_and_the_rest_counted() -> None:
    warnings = WarningList()
    for number in range(5000):
        warnings.add(MemberWarning(str(number), "ignored"))
        warnings.add(MemberWarning(str(number), "here twice"))
    warnings.add("something else")
    texts = warnings.texts
    assert texts[:2] == ["0: ignored", "0: here twice"]
    assert "4990 more members: ignored" in texts and "4990 more members: here twice" in texts
    assert texts[-1] == "something else" and len(texts) == 2 * 11 + 1
    assert {type(text) for text in texts} == {str}


def test_a_kind_that_comes_after_the_bound_is_left_out_like_others() -> None:
    warnings = WarningList()
    for number in range(1000):
        warnings.add(str(number))
    for number in range(100):
        warnings.add(MemberWarning(str(number), "ignored"))
    assert warnings.texts[1000:] == ["more warnings follow, which are left out"]


def test_a_note_takes_the_place_of_the_last_one_with_its_key() -> None:
    warnings = WarningList()
    warnings.note("copies", "1 chunk")
    warnings.add("another")
    warnings.note("copies", "2 chunks")
    assert warnings.texts == ["2 chunks", "another"]
