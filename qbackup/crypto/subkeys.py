"""Keys for this program's own purposes, from the key that unlocked the backup.

HKDF (RFC 5869) with SHA-256: a key for one purpose reveals nothing of the backup's keys, nor of a
key for another purpose. The values that a key is bound to go into its derivation. A format whose
header has no derivation of its own (3) would make its root from the passphrase; nothing else
changes then.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

_SALT = b"qbackup root key 1"


@dataclass(frozen=True)
class RootKey:
    """A secret that only the owner of the passphrase can compute. The secret is kept out of repr.

    Args:
        secret: the derived key of the backup's header.
    """

    secret: bytes = field(repr=False)

    def derive(self, purpose: str, *bound_to: bytes) -> bytes:
        """Derives the key for one purpose, 32 bytes; other bound values give another key."""
        parts = [purpose.encode("ascii"), *bound_to]
        info = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        root = hmac.digest(_SALT, self.secret, "sha256")
        return hmac.digest(root, info + b"\x01", "sha256")
