"""A second reader of backups, written after docs/format.md, for tests alone.

It shows that the page is enough: it shares no code with the product, reads each committed vector,
and recomputes the page's examples. It holds everything in memory, has no limits, and is
lenient where the page says what to refuse: it is not for backups that somebody else may have made.
"""

from tests.secondreader.backup import Backup
from tests.secondreader.protection import (
    bytes_to_key,
    hmac_of,
    key_material,
    openssl_decrypt,
    scrypt_decrypt,
    scrypt_fields,
)
from tests.secondreader.tar import Member, members

__all__ = [
    "Backup",
    "Member",
    "bytes_to_key",
    "hmac_of",
    "key_material",
    "members",
    "openssl_decrypt",
    "scrypt_decrypt",
    "scrypt_fields",
]
