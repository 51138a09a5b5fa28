"""Copy of ``qubes.xml`` in the output folder."""

from __future__ import annotations

from qbackup.base.names import METADATA_PATH
from qbackup.base.report import FileResult
from qbackup.restore.results import IN_THE_WAY
from qbackup.restore.sinks import AlreadyExists, CannotWrite, Writer


def write_metadata(writer: Writer, data: bytes) -> FileResult:
    """Writes ``qubes.xml`` into the output folder, or keeps an equal one."""
    size = len(data)
    if writer.holds(METADATA_PATH, data):
        return FileResult(qube="", name=METADATA_PATH, status="kept", size=size)
    try:
        with writer.image("", METADATA_PATH) as sink:
            sink.write(0, memoryview(data))
            sink.commit(size)
    except AlreadyExists:
        return FileResult(qube="", name=METADATA_PATH, status="exists", error=IN_THE_WAY)
    except CannotWrite as error:
        return FileResult(qube="", name=METADATA_PATH, status="damaged", error=str(error))
    return FileResult(qube="", name=METADATA_PATH, status="ok", size=size)
