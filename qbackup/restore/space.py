"""Check of the free space, before a restore writes its first byte."""

from __future__ import annotations

from qbackup.base.errors import MachineError
from qbackup.restore.sinks import Writer


def check_space(writer: Writer, stored: int, estimated: int) -> str | None:
    """Compares the free space with the space needed, before the first byte is written.

    The stored size is the lower bound, as no filter makes files much larger. The backup's own
    figure is an estimate, so a shortage by it is only a warning.

    Returns:
        A warning, or None.

    Raises:
        MachineError: not even the stored bytes fit.
    """
    free = writer.free_space()
    if free is None:
        return None
    if free < stored:
        raise MachineError(
            f"not enough room: at least {stored} bytes are needed, {free} are free. Nothing was"
            " written; free some space, or restore qube by qube to different disks"
        )
    if free < estimated:
        return f"this may not fit: about {estimated} bytes may be needed, {free} are free"
    return None
