"""A multi-volume archive, cut anywhere and put together again.

The input is a byte of choices, and an archive that is cut here; or, where it says so, what is cut
already, with whatever stands in front of each volume. What is accepted must say at each cut what
goes on there, and be the archive that the volumes are without their first headers.
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Sequence

from qbackup.base.errors import QBackupError
from qbackup.base.events import Data
from qbackup.content.inner import InnerArchive
from qbackup.content.volumes import choose_volumes
from qbackup.storage.tar.fields import parse_continuation
from tests.fuzz import volumecut
from tests.fuzz.common import LIMITS, archives, outcome
from tests.fuzz.inner import Runs, add_runs, own_name
from tests.support.tarbytes import BLOCK, in_pieces

_COUNTS = (1, 2, 3, 7)
COMPRESSED, HAS_HEADERS = 4, 8  # bits of the first byte; the lowest two are how many
_NAME = "vm1/private.img"


def check(data: bytes) -> None:
    """What was cut comes together, and nothing else does."""
    if not data:
        return
    count = _COUNTS[data[0] & 3]
    for archive in archives(data[1:]):
        if data[0] & HAS_HEADERS:
            volumes = volumecut.split(archive, count, BLOCK)
        else:
            volumes = volumecut.cut(archive, count)
        _check(volumes, is_compressed=bool(data[0] & COMPRESSED))


def _check(volumes: Sequence[bytes], *, is_compressed: bool) -> None:
    said = [_said(volume) if number else None for number, volume in enumerate(volumes)]
    parts = [v[BLOCK:] if seam else v for v, seam in zip(volumes, said, strict=True)]
    archive = b"".join(parts)
    name = own_name(archive, _NAME)
    joined = outcome(lambda: _read(_joined(volumes, name, is_compressed=is_compressed)))
    whole = outcome(lambda: _read(InnerArchive(in_pieces(archive, BLOCK), name, LIMITS)))
    cuts = list(itertools.accumulate(map(len, parts), initial=0))[1:-1]
    seams = list(zip(volumecut.seams(archive, cuts), said[1:], strict=True))
    if isinstance(joined, QBackupError):
        fits = all(wanted is not None and wanted == found for wanted, found in seams)
        assert isinstance(whole, QBackupError) or not fits
    else:
        assert joined == whole
        assert all(wanted is None or wanted == found for wanted, found in seams)


def _said(volume: bytes) -> volumecut.VolumeBoundary | None:
    if len(volume) < BLOCK:
        return None
    seam = outcome(lambda: parse_continuation(volume[:BLOCK]))
    return None if isinstance(seam, QBackupError) else seam


def _joined(volumes: Sequence[bytes], name: str, *, is_compressed: bool) -> InnerArchive:
    stored = [gzip.compress(v, 1, mtime=0) if is_compressed else v for v in volumes]
    events = (Data(memoryview(v), len(v), index) for index, v in enumerate(stored))
    return InnerArchive(iter(choose_volumes(None, None, LIMITS)(events)), name, LIMITS)


def _read(inner: InnerArchive) -> tuple[int, Runs]:
    entry = inner.only_file()
    runs: Runs = []
    add_runs(runs, entry.extents(), entry.size)
    inner.finish()
    return entry.size, runs
