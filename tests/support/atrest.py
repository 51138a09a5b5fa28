"""What must hold when a test is over: nothing of the pipeline's runs, and nothing is charged."""

from __future__ import annotations

import threading
import weakref

from qbackup.pipeline.key_pool import KeyPool
from tests.support.commandline import wait_for

_others: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def forget_others() -> None:
    """Threads that earlier tests have left, in the middle of a derivation say, don't count."""
    _others.update(threading.enumerate())


def threads() -> list[str]:
    """This package's threads that were started by this test and are alive."""
    alive = (t for t in threading.enumerate() if t not in _others)
    return [t.name for t in alive if t.name.startswith("qbackup-")]


def check_at_rest(pool: KeyPool) -> None:
    """Nothing runs, nothing is charged, no thread waits for anything."""
    wait_for(lambda: not threads())
    schedule = pool._schedule
    assert (schedule._running_jobs, schedule._used, schedule._lone) == (0, 0, False)
    assert not pool._workers.idle
