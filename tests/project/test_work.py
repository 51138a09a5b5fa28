"""The count of calls that stands in for a clock: endless work is ended, which is a failure."""

from __future__ import annotations

import itertools
import sys
import threading

import pytest

from tests.support.work import TooMuchWork, at_most


def test_a_loop_without_end_ends() -> None:
    with pytest.raises(TooMuchWork), at_most(1000):
        for number in itertools.count():
            str.isdigit(str(number))


def test_work_within_the_bound_is_left_alone() -> None:
    with at_most(1000):
        assert len(list(map(str, range(500)))) == 500
    assert sys.getprofile() is None


def test_threads_begun_meanwhile_count() -> None:
    with pytest.raises(TooMuchWork), at_most(1000):
        thread = threading.Thread(target=lambda: [abs(number) for number in range(2000)])
        thread.start()
        thread.join()
