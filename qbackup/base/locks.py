"""Locks, for objects that several threads may use. Threads are started in the pipeline only."""

from __future__ import annotations

from threading import Condition, Lock, RLock

__all__ = ["Condition", "Lock", "RLock"]
