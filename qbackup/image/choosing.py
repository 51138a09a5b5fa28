"""Choice of the partition with `/`: the one with a system in it, else the largest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qbackup.base.errors import Damaged, LimitExceeded, PartitionUnreadable, UnsupportedFormat
from qbackup.image.disk import Volume
from qbackup.image.kinds import READABLE_NAMES, SYSTEMS, WITHOUT_FILES

_TRIED_LIMIT = 16  # partitions that are opened, the largest ones
_NAMED_LIMIT = 20


@dataclass(frozen=True, slots=True)
class Choice:
    """The partition with `/`.

    Args:
        volume: the partition.
        obstacle: reason why another one may be right; None where there is no doubt.
    """

    volume: Volume
    obstacle: str | None = None


def choose(volumes: Sequence[Volume], has_system: Callable[[Volume], bool]) -> Choice:
    """Chooses the partition to begin with.

    Args:
        volumes: all partitions, at least one.
        has_system: tells whether a volume that can be opened has the files of a system.

    Raises:
        PartitionUnreadable: no partition can be read.
        Damaged: the only readable one makes no sense. LimitExceeded in the same way.
    """
    candidates = [volume for volume in volumes if volume.is_readable]
    candidates = sorted(candidates, key=lambda volume: -volume.size)[:_TRIED_LIMIT]
    good, fault = _open_each(candidates)
    if fault is not None and not good:
        raise fault
    if not good:
        raise PartitionUnreadable(_describe_all(volumes))
    chosen = next((volume for volume in good if has_system(volume)), None)
    choice = Choice(good[0], _doubt(good, volumes)) if chosen is None else Choice(chosen)
    for volume in good:
        if volume is not choice.volume:
            volume.forget()
    return choice


def _open_each(
    candidates: Sequence[Volume],
) -> tuple[list[Volume], Damaged | UnsupportedFormat | LimitExceeded | None]:
    """Opens volumes; returns those without error, and the first error."""
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
    """Names the partitions that may hold the system instead, and can't be read; else None."""
    shown = good[0]
    rivals = [
        volume
        for volume in volumes
        if volume not in good
        and (
            volume.is_readable
            or volume.content.kind in SYSTEMS
            or (volume.size > shown.size and volume.content.kind not in WITHOUT_FILES)
        )
    ]
    if not rivals:
        return None
    others = ", ".join(volume.words for volume in rivals[:_NAMED_LIMIT])
    return (
        f"only {shown.words} is shown, which holds no system; the files in {others} can't be read"
        f" here (--partition {shown.number} asks for that one alone)"
    )


def _describe_all(volumes: Sequence[Volume]) -> str:
    found = "; ".join(f"{part.number}: {part.content.words}" for part in volumes[:_NAMED_LIMIT])
    return f"no partition of the image has {READABLE_NAMES} ({found})"
