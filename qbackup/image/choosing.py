"""The choice of the partition with `/`: the one with a system in it, else the largest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qbackup.base.errors import Damaged, LimitExceeded, PartitionUnreadable, UnsupportedFormat
from qbackup.image.disk import Volume
from qbackup.image.kinds import SYSTEMS, WITHOUT_FILES

_TRIED_LIMIT = 16  # partitions that are looked into, the largest ones
_NAMED_LIMIT = 20


@dataclass(frozen=True, slots=True)
class Choice:
    """The partition with `/`.

    Args:
        volume: the partition.
        obstacle: why it may not be the right one; None where it surely is.
    """

    volume: Volume
    obstacle: str | None = None


def choose(volumes: Sequence[Volume], has_system: Callable[[Volume], bool]) -> Choice:
    """The partition to begin with.

    Args:
        volumes: all partitions, at least one.
        has_system: tells of a volume that can be opened if its files are those of a system.

    Raises:
        PartitionUnreadable: none can be read.
        Damaged: the only one that could be makes no sense; so LimitExceeded.
    """
    candidates = [volume for volume in volumes if volume.is_ext]
    candidates = sorted(candidates, key=lambda volume: -volume.size)[:_TRIED_LIMIT]
    good, fault = _opened(candidates)
    if fault is not None and not good:
        raise fault
    if not good:
        raise PartitionUnreadable(_what_else(volumes))
    chosen = next((volume for volume in good if has_system(volume)), None)
    choice = Choice(good[0], _doubt(good, volumes)) if chosen is None else Choice(chosen)
    for volume in good:
        if volume is not choice.volume:
            volume.forget()
    return choice


def _opened(
    candidates: Sequence[Volume],
) -> tuple[list[Volume], Damaged | UnsupportedFormat | LimitExceeded | None]:
    """Those that can be opened, and the first error."""
    good, fault = [], None
    for volume in candidates:
        try:
            volume.open()
        except (Damaged, UnsupportedFormat, LimitExceeded) as error:
            fault = fault or error
        else:
            good.append(volume)
    return good, fault


def _doubt(good: Sequence[Volume], volumes: Sequence[Volume]) -> str | None:
    """The partitions that may hold the system instead, and can't be read; None without any."""
    shown = good[0]
    rivals = [
        volume
        for volume in volumes
        if volume not in good
        and (
            volume.is_ext
            or volume.content.kind in SYSTEMS
            or (volume.size > shown.size and volume.content.kind not in WITHOUT_FILES)
        )
    ]
    if not rivals:
        return None
    others = ", ".join(volume.words for volume in rivals[:_NAMED_LIMIT])
    return (
        f"only {shown.words} is shown, which holds no system; what is in {others} can't be read"
        f" here (--partition {shown.number} asks for that one alone)"
    )


def _what_else(volumes: Sequence[Volume]) -> str:
    found = "; ".join(f"{part.number}: {part.content.words}" for part in volumes[:_NAMED_LIMIT])
    return f"no partition of the image has ext4 ({found})"
