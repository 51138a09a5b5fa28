"""One file at a time is written under a name; files of other names don't wait."""

from __future__ import annotations

import threading

import pytest

from qbackup.restore.output.name_locks import NameLocks

PATIENCE = 20  # seconds until a test gives up


def hold(locks: NameLocks, path: str, got: threading.Event) -> threading.Thread:
    def run() -> None:
        with locks.hold(path):
            got.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("other", ["work/private.img", "Work/Private.IMG"])
def test_the_second_waits_for_the_first(other: str) -> None:
    locks, got = NameLocks(), threading.Event()
    with locks.hold("work/private.img"):
        thread = hold(locks, other, got)
        assert not got.wait(0.05)
    assert got.wait(PATIENCE)
    thread.join(PATIENCE)


def test_other_names_are_free() -> None:
    locks, got = NameLocks(), threading.Event()
    with locks.hold("work/private.img"):
        hold(locks, "work/root.img", got)
        assert got.wait(PATIENCE)


def test_an_error_lets_go() -> None:
    locks, got = NameLocks(), threading.Event()
    with pytest.raises(ZeroDivisionError), locks.hold("work/private.img"):
        raise ZeroDivisionError
    hold(locks, "work/private.img", got)
    assert got.wait(PATIENCE)
