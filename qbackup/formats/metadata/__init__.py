"""``qubes.xml`` of every age → `QubeRecord`: what a backup says about its qubes.

The bytes are authenticated before they come here. They are still bounded, and a DOCTYPE is
refused: no entity of any kind is needed, and each kind has cost somebody memory.
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
