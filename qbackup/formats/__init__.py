"""Formats of backups, which turn the chunks of a file into one stream, and the choice of one.

`choose_format` is the only place that looks at the version.
"""

from __future__ import annotations

from qbackup.base.errors import UnsupportedFormat
from qbackup.formats.protocol import Format


def choose_format(version: int, *, hmac_algorithm: str | None = None) -> Format:
    """Chooses the format of a backup by its version.

    Args:
        version: from the header. Each version has only one way to authenticate the header.
        hmac_algorithm: see `qbackup.BackupArchive`.

    Raises:
        UnsupportedFormat: this program does not read that version.
    """
    if version == 4:
        from qbackup.formats.v4 import Format4

        return Format4()
    if version == 2:
        from qbackup.formats.v2 import Format2

        return Format2(hmac_algorithm)
    if version == 3:
        from qbackup.formats.v3 import Format3

        return Format3(hmac_algorithm)
    raise UnsupportedFormat(f"format {version} is not read yet")
