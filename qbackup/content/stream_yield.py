"""`StreamYield`: bounds on compressed data that cost work and give next to no plaintext.

Each stream costs the set-up of a decoder, each block its tables. A chunk of 100 MiB of nothing but
empty streams or tiny blocks took 10 s to 16 minutes. Real compressors give at least as many bytes
as they are given, but for a few in a thousand, and end a stream once for many kilobytes.
"""

from __future__ import annotations

from qbackup.base.errors import LimitExceeded
from qbackup.base.limits import Limits

_PLAINTEXT_PER_STREAM = 4096  # bytes that pay for one more stream


class StreamYield:
    """Count of the bytes that went into a decoder, of the streams there, and of what came out.

    Args:
        name: name of the filter.
        limits: `Limits.small_streams` and `Limits.compressed_excess` bound the work.
    """

    def __init__(self, name: str, limits: Limits) -> None:
        self._name = name
        self._limits = limits
        self._taken = 0
        self._given = 0
        self._streams = 0

    def take(self, size: int) -> None:
        """Counts compressed bytes, before they are decoded.

        Raises:
            LimitExceeded: too many came before for the plaintext that they gave.
        """
        excess = self._taken - self._given - self._given // 4
        if excess > self._limits.compressed_excess:
            raise LimitExceeded(
                f"the {self._name} stream gave {self._given} bytes of plaintext for {self._taken}"
                " compressed ones, and no compressor makes data larger",
                limit="compressed_excess",
            )
        self._taken += size

    def give(self, size: int, *, ends: bool) -> None:
        """Counts plaintext, and the end of a stream.

        Raises:
            LimitExceeded: too many streams for the plaintext that they gave.
        """
        self._given += size
        self._streams += ends
        small = self._streams - self._given // _PLAINTEXT_PER_STREAM
        if small > self._limits.small_streams:
            raise LimitExceeded(
                f"{self._streams} {self._name} streams follow one another, and gave"
                f" {self._given} bytes of plaintext: more than {self._limits.small_streams} of them"
                " are too small",
                limit="small_streams",
            )
