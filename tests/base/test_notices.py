"""A warning on a member is a sentence that knows its kind."""

from __future__ import annotations

from qbackup.base.notices import MemberWarning


def test_a_warning_names_the_member_and_shows_nothing_that_a_terminal_obeys() -> None:
    warning = MemberWarning("vm1/\x1b[2J", "here twice")
    assert warning == "vm1/\\x1b[2J: here twice"
    assert warning.kind == "here twice"


def test_text_in_front_of_a_warning_leaves_its_kind() -> None:
    warning = MemberWarning("vm1/x", "here twice").behind("usb/copy")
    assert (warning, warning.kind) == ("usb/copy: vm1/x: here twice", "here twice")
