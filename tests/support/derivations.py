"""Derivations of keys for tests, and what they need of the machine."""

from __future__ import annotations

import hashlib
import os

import pytest

from qbackup.crypto.kdf import Derivation
from qbackup.crypto.romix.kernel import llvmlite_is_installed


def need_llvmlite() -> None:
    """Skips where it is not installed; in continuous integration (`CI` is set) that is a
    failure.
    """
    if llvmlite_is_installed():
        return
    if os.environ.get("CI"):
        pytest.fail("not installed: llvmlite")
    pytest.skip("not installed: llvmlite")


def key_of(job: Derivation) -> bytes:
    """By OpenSSL."""
    parameters = job.parameters
    return hashlib.scrypt(
        job.secret, salt=job.salt, n=parameters.n, r=parameters.r, p=parameters.p, dklen=64
    )
