"""Parsers of ``qubes.xml`` of every release → `QubeRecord`.

The bytes are authenticated before they are parsed here. Their length is still bounded, and a
DOCTYPE is refused: Qubes writes no entities, and entities are a known way to exhaust memory.
"""

from qbackup.formats.metadata.parse import parse_known_qubes, parse_qubes_xml
from qbackup.formats.metadata.record import QubeRecord
from qbackup.formats.metadata.settings import Device, KnownQube, QubeSettings
from qbackup.formats.metadata.table import QubeTable

__all__ = [
    "Device",
    "KnownQube",
    "QubeRecord",
    "QubeSettings",
    "QubeTable",
    "parse_known_qubes",
    "parse_qubes_xml",
]
