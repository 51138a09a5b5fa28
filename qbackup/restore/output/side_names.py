"""Names beside a file's own: ``NAME.part`` until it is whole, and others for a while or for good.

All of these are made here. Where such a name is longer than the file system allows, and the file's
own name is not, the side name is shortened: the beginning of the name, a percent sign, and a hash
of the whole name. The hash depends on the name alone, so a second run finds what a killed one has
left. No two files share a side name, as 128 bits of the hash are in it.
"""

from __future__ import annotations

import hashlib
import os

from qbackup.base.names import COMPONENT_LIMIT_BYTES, encode

PART_SUFFIX = ".part"  # of a file or folder until it is whole
OLD_SUFFIX = ".part.part"  # of what is replaced; no file of a backup, nor a part of one, has it
DAMAGED_SUFFIX = ".damaged"  # of a file that is not whole and is kept
UNPLACED_SUFFIX = ".unplaced"  # of bytes of such a file that have no known place in it
RANGES_SUFFIX, MAP_SUFFIX = ".json", ".map"  # behind a kept image's name: its good and lost bytes
UNVERIFIED_SUFFIX = ".unverified"  # of bytes that nothing proves, asked for by name
_HASH_DIGITS = 32
_ALWAYS_FIT = 64  # bytes of a name that every file system takes


def part_name(folder: int, name: str) -> str:
    """Gives ``NAME.part``, or its short form.

    Args:
        folder: descriptor of the folder with the file.
        name: the file's own name.
    """
    return side_name(folder, name, PART_SUFFIX)


def old_name(folder: int, name: str) -> str:
    """Gives the name of what a file replaces, until that is done."""
    return side_name(folder, name, OLD_SUFFIX)


def side_name(folder: int, name: str, suffix: str) -> str:
    """Gives a file's name with a suffix; shortened where only the suffix makes it too long."""
    if name.isascii() and len(name + suffix) <= _ALWAYS_FIT:
        return name + suffix
    size, longest = len(encode(name)), _longest(folder)
    if size + len(suffix) <= longest or size > longest:
        return name + suffix  # of a name that is too long itself, the system's own error counts
    end = f"%{hashlib.sha256(encode(name)).hexdigest()[:_HASH_DIGITS]}{suffix}"
    # cut between characters, and without bytes that are not UTF-8
    start = encode(name)[: max(0, longest - len(end))].decode("utf-8", "ignore")
    return start + end


def _longest(folder: int) -> int:
    """Gives the number of bytes that a name in an open folder can have.

    Some file systems answer with more than they take: a FAT counts UTF-16 characters, up to 255.
    """
    try:
        longest = os.fpathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError, AttributeError):
        longest = 0
    return min(longest, COMPONENT_LIMIT_BYTES) if longest > 0 else COMPONENT_LIMIT_BYTES
