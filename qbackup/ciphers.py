"""AES-256 in counter mode, in place, by whatever this machine has.

The order: pycryptodome (2.8 GB/s into its own buffer), the system's libcrypto through
ctypes, and last pyscrypt's pure Python (0.2 to 0.4 MB/s), for machines where nothing
compiled can be loaded.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Callable
from dataclasses import dataclass

from qbackup.errors import MachineError

AES_BLOCK_SIZE = 16
_PIECE_SIZE = 1 << 30  # libcrypto counts in a C int

# (32 bytes of key, buffer decrypted in place from counter 0)
CtrInPlace = Callable[[bytes, memoryview], None]


@dataclass(frozen=True)
class Cipher:
    """An implementation of AES-256-CTR with a nonce and counter of zero."""

    name: str
    decrypt: CtrInPlace


def _pycryptodome() -> Cipher:
    from Crypto.Cipher import AES

    def decrypt(key: bytes, buffer: memoryview) -> None:
        counter = AES.new(key, AES.MODE_CTR, nonce=b"", initial_value=bytes(AES_BLOCK_SIZE))
        counter.decrypt(buffer, output=buffer)

    return Cipher("pycryptodome", decrypt)


def _libcrypto() -> Cipher:
    path = ctypes.util.find_library("crypto")
    if path is None:
        raise ImportError("no libcrypto on this system")
    library = ctypes.CDLL(path)
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    library.EVP_CIPHER_CTX_new.restype = pointer
    library.EVP_aes_256_ctr.restype = pointer
    library.EVP_CIPHER_CTX_free.argtypes = [pointer]
    library.EVP_DecryptInit_ex.argtypes = [
        pointer,
        pointer,
        pointer,
        ctypes.c_char_p,
        ctypes.c_char_p,
    ]
    library.EVP_DecryptUpdate.argtypes = [
        pointer,
        pointer,
        ctypes.POINTER(integer),
        pointer,
        integer,
    ]

    def decrypt(key: bytes, buffer: memoryview) -> None:
        context = library.EVP_CIPHER_CTX_new()
        try:
            nonce = bytes(AES_BLOCK_SIZE)
            done = library.EVP_DecryptInit_ex(context, library.EVP_aes_256_ctr(), None, key, nonce)
            for start in range(0, len(buffer), _PIECE_SIZE):
                piece = buffer[start : start + _PIECE_SIZE]
                address = ctypes.addressof(ctypes.c_char.from_buffer(piece))
                written = integer(0)
                done = done and library.EVP_DecryptUpdate(
                    context, address, ctypes.byref(written), address, len(piece)
                )
        finally:
            library.EVP_CIPHER_CTX_free(context)
        if not done:
            raise MachineError("the system's libcrypto could not decrypt")

    return Cipher("libcrypto", decrypt)


def _pyscrypt() -> Cipher:
    from pyscrypt import aesctr

    def decrypt(key: bytes, buffer: memoryview) -> None:
        # only its block cipher: its counter mode begins anew with every call
        aes = aesctr.AES(key)
        for start in range(0, len(buffer), AES_BLOCK_SIZE):
            counter = (start // AES_BLOCK_SIZE).to_bytes(AES_BLOCK_SIZE, "big")
            stream = aes.encrypt(list(counter))
            block = buffer[start : start + AES_BLOCK_SIZE]
            block[:] = bytes(a ^ b for a, b in zip(block, stream, strict=False))

    return Cipher("pyscrypt", decrypt)


IMPLEMENTATIONS: tuple[Callable[[], Cipher], ...] = (_pycryptodome, _libcrypto, _pyscrypt)


def choose_cipher() -> Cipher:
    """The fastest implementation that can be loaded here.

    Raises:
        MachineError: there is none.
    """
    for load in IMPLEMENTATIONS:
        try:
            return load()
        except (ImportError, OSError, AttributeError):
            continue
    raise MachineError("no AES on this machine: install pycryptodome")
