"""Search for the lost bytes of a damaged image, in ``NAME.damaged.json`` beside it.

The file is believed only if it can be this program's, and is no older than the image: a repair or a
mount changes the image, and its files then have other blocks.
"""

from __future__ import annotations

import os
import re
import stat
from typing import BinaryIO

from qbackup.base.limits import Limits
from qbackup.base.names import display
from qbackup.image.lost_ranges import LostRanges
from qbackup.restore.damage_map import parse_lost, text_limit
from qbackup.restore.output.folders import OLD_FILE, is_trusted
from qbackup.restore.output.side_names import DAMAGED_SUFFIX, RANGES_SUFFIX

_REMAINS = re.compile(re.escape(DAMAGED_SUFFIX) + r"(\.\d+)?$")


class LossesUnknown(Exception):
    """The lost bytes of a damaged image can't be known; the text says why."""


def is_remains(path: str) -> bool:
    """Tells by its name if an image is the kept part of a damaged one."""
    return bool(_REMAINS.search(path))


def read_losses(path: str, image: BinaryIO, limits: Limits) -> LostRanges:
    """Reads the lost bytes of an image from the file beside it.

    Args:
        path: of the image.
        image: the image, open.
        limits: bounds on the file.

    Raises:
        LossesUnknown: there is no such file, or it can't be believed.
    """
    where = path + RANGES_SUFFIX
    name = display(os.path.basename(where))
    try:
        fd = os.open(where, os.O_RDONLY | OLD_FILE)
        with open(fd, "rb") as file:
            text = _read(file, image, text_limit(limits.damaged_ranges))
            size = os.fstat(image.fileno()).st_size
        return LostRanges((at, at + length) for at, length in parse_lost(text, size))
    except FileNotFoundError:
        raise LossesUnknown(f"there is no {name} beside it") from None
    except OSError as error:
        raise LossesUnknown(f"{name} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise LossesUnknown(f"{name} is not used: {error}") from error


def _read(file: BinaryIO, image: BinaryIO, limit: int) -> bytes:
    """Reads a file beside an image. Raises ValueError if it can't be believed."""
    state, of_image = os.fstat(file.fileno()), os.fstat(image.fileno())
    if not stat.S_ISREG(state.st_mode) or not is_trusted(state, image.fileno()):
        raise ValueError("it belongs to somebody else")
    if state.st_mtime_ns < of_image.st_mtime_ns:
        raise ValueError(
            "the image was changed after it; if both were only copied, copy them again with their"
            " times (cp -p)"
        )
    text = file.read(limit + 1)
    if len(text) > limit:
        raise ValueError(f"it is longer than {limit} bytes (--limit damaged_ranges)")
    return text
