"""The environment of every program that qbackup starts: without what leads to the passphrase."""

from __future__ import annotations

import os
import shlex
from collections.abc import MutableMapping

_PREFIX = "QBACKUP_PASSPHRASE"  # of the variable itself, and of those that name a file or a command


def child_environment() -> dict[str, str]:
    """Makes the environment for a program: that of this process, without the secrets."""
    return {name: value for name, value in os.environ.items() if not _is_secret(name)}


def without_secrets_of_environment(command: str) -> str:
    """Makes a command line for a library that starts the program itself, with our environment."""
    unset = [word for name in os.environ if _is_secret(name) for word in ("-u", name)]
    return f"{shlex.join(['env', *unset])} {command}" if unset else command


def take_secrets(environ: MutableMapping[str, str]) -> dict[str, str]:
    """Takes the secrets out of an environment, so that nothing started from now on gets them."""
    return {name: environ.pop(name) for name in list(environ) if _is_secret(name)}


def _is_secret(name: str) -> bool:
    return name.startswith(_PREFIX)
