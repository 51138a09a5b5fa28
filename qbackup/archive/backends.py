"""`Backends`: the libraries of this machine that do the work, by their names."""

from __future__ import annotations

from dataclasses import dataclass

from qbackup.content.decoders import gzip_library
from qbackup.crypto.kdf import Deriver
from qbackup.pipeline.pipeline import Pipeline


@dataclass(frozen=True, kw_only=True)
class Backends:
    """The libraries that derive keys, decrypt and decompress on this machine.

    Args:
        key_derivation: names of the scrypt libraries, the fastest first.
        is_slow: only pure Python can derive keys here, which takes minutes or hours a chunk.
        cipher: name of the library with AES.
        gzip: name of the library that inflates gzip.
        jobs: scrypt lanes that are derived side by side.
        has_kernel: llvmlite is installed, so that one core can derive several lanes at once.
    """

    key_derivation: tuple[str, ...]
    is_slow: bool
    cipher: str
    gzip: str
    jobs: int
    has_kernel: bool

    @classmethod
    def of(cls, deriver: Deriver, pipeline: Pipeline) -> Backends:
        """Names the libraries that a deriver and a pipeline use.

        Raises:
            MachineError: there is no scrypt on this machine.
        """
        return cls(
            key_derivation=tuple(backend.name for backend in deriver.backends),
            is_slow=deriver.backends[0].slow,
            cipher=pipeline.cipher.name,
            gzip=gzip_library(),
            jobs=pipeline.jobs,
            has_kernel=deriver.has_kernel,
        )
