"""AES-256 in counter mode, and block ciphers in CBC mode, in place, with this machine's libraries.

The order for AES-256-CTR: pycryptodome (2.8 GB/s into its own buffer), the system's libcrypto
through ctypes, and last pyscrypt's pure Python (0.2 to 0.4 MB/s), for machines where nothing
compiled can be loaded. CBC, for the old formats, is computed by pycryptodome or libcrypto.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qbackup.base.errors import MachineError, UnsupportedFormat
from qbackup.base.names import display

AES_BLOCK_SIZE = 16
_PIECE_SIZE = 1 << 30  # libcrypto counts in a C int

# (32 bytes of key, buffer decrypted in place from counter 0)
CtrInPlace = Callable[[bytes, memoryview], None]
# (key, cipher block before the first one or the IV, whole blocks decrypted in place)
CbcInPlace = Callable[[bytes, bytes, memoryview], None]


@dataclass(frozen=True)
class Cipher:
    """An implementation of AES-256-CTR with a nonce and counter of zero."""

    name: str
    decrypt: CtrInPlace


@dataclass(frozen=True)
class CbcCipher:
    """A block cipher in CBC mode.

    Args:
        key_size: in bytes.
        block_size: in bytes.
        decrypt: the computation.
    """

    key_size: int
    block_size: int
    decrypt: CbcInPlace


def _pycryptodome() -> Cipher:
    from Crypto.Cipher import AES

    def decrypt(key: bytes, buffer: memoryview) -> None:
        counter = AES.new(key, AES.MODE_CTR, nonce=b"", initial_value=bytes(AES_BLOCK_SIZE))
        counter.decrypt(buffer, output=buffer)

    return Cipher("pycryptodome", decrypt)


def _libcrypto() -> Cipher:
    library = _load_libcrypto()

    def decrypt(key: bytes, buffer: memoryview) -> None:
        _decrypt_by_libcrypto(library, b"aes-256-ctr", key, bytes(AES_BLOCK_SIZE), buffer)

    return Cipher("libcrypto", decrypt)


def _load_libcrypto() -> Any:
    path = ctypes.util.find_library("crypto")
    if path is None:
        raise ImportError("no libcrypto on this system")
    library = ctypes.CDLL(path)
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    library.EVP_CIPHER_CTX_new.restype = pointer
    library.EVP_get_cipherbyname.restype = pointer
    library.EVP_get_cipherbyname.argtypes = [ctypes.c_char_p]
    library.EVP_CIPHER_CTX_free.argtypes = [pointer]
    library.EVP_CIPHER_CTX_set_padding.argtypes = [pointer, integer]
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
    return library


def _decrypt_by_libcrypto(
    library: Any, name: bytes, key: bytes, iv: bytes, buffer: memoryview
) -> None:
    context = library.EVP_CIPHER_CTX_new()
    try:
        cipher = library.EVP_get_cipherbyname(name)
        done = cipher and library.EVP_DecryptInit_ex(context, cipher, None, key, iv)
        done = done and library.EVP_CIPHER_CTX_set_padding(context, 0)
        for start in range(0, len(buffer), _PIECE_SIZE):
            piece = buffer[start : start + _PIECE_SIZE]
            address = ctypes.addressof(ctypes.c_char.from_buffer(piece))
            written = ctypes.c_int(0)
            done = done and library.EVP_DecryptUpdate(
                context, address, ctypes.byref(written), address, len(piece)
            )
    finally:
        library.EVP_CIPHER_CTX_free(context)
    if not done:
        raise MachineError("the system's libcrypto could not decrypt")


def _pyscrypt() -> Cipher:
    from pyscrypt import aesctr

    def decrypt(key: bytes, buffer: memoryview) -> None:
        # Only the block cipher is used, as pyscrypt's counter mode begins anew with every call
        aes = aesctr.AES(key)
        for start in range(0, len(buffer), AES_BLOCK_SIZE):
            counter = (start // AES_BLOCK_SIZE).to_bytes(AES_BLOCK_SIZE, "big")
            stream = aes.encrypt(list(counter))
            block = buffer[start : start + AES_BLOCK_SIZE]
            block[:] = bytes(a ^ b for a, b in zip(block, stream, strict=False))

    return Cipher("pyscrypt", decrypt)


IMPLEMENTATIONS: tuple[Callable[[], Cipher], ...] = (_pycryptodome, _libcrypto, _pyscrypt)


def choose_cipher() -> Cipher:
    """Gives the fastest implementation that can be loaded here.

    Raises:
        MachineError: none can be loaded.
    """
    for load in IMPLEMENTATIONS:
        try:
            return load()
        except (ImportError, OSError, AttributeError):
            continue
    raise MachineError("no AES on this machine: install pycryptodome")


# openssl's name → pycryptodome's module, bytes of key, bytes of a block
_CBC = {
    "aes-128-cbc": ("AES", 16, 16),
    "aes-192-cbc": ("AES", 24, 16),
    "aes-256-cbc": ("AES", 32, 16),
    "des-ede3-cbc": ("DES3", 24, 8),
    "des-ede-cbc": ("DES3", 16, 8),
    "des-cbc": ("DES", 8, 8),
    "bf-cbc": ("Blowfish", 16, 8),
    "cast5-cbc": ("CAST", 16, 8),
    "rc2-cbc": ("ARC2", 16, 8),
}
_CBC_NAMES = {
    "aes128": "aes-128-cbc", "aes192": "aes-192-cbc", "aes256": "aes-256-cbc",
    "des3": "des-ede3-cbc", "des": "des-cbc", "bf": "bf-cbc", "blowfish": "bf-cbc",
    "cast": "cast5-cbc", "cast-cbc": "cast5-cbc", "rc2": "rc2-cbc", "rc2-128": "rc2-cbc",
}  # fmt: skip
CBC_NAMES = tuple(_CBC)
_OPTIONS = {"ARC2": {"effective_keylen": 128}}
_MIX_SIZE = 128 * 1024  # small enough to stay in the cache between ECB and XOR


def choose_cbc(name: str) -> CbcCipher:
    """Gives the cipher of this name in ``openssl enc``.

    Raises:
        UnsupportedFormat: the name is not known.
        MachineError: no library that computes this cipher can be loaded here.
    """
    plain = name.lower()
    plain = _CBC_NAMES.get(plain, plain)
    if plain not in _CBC:
        raise UnsupportedFormat(
            f"the backup was encrypted with {display(name[:80])}, which is not read; known are"
            f" {', '.join(_CBC)}"
        )
    module, key_size, block_size = _CBC[plain]
    for load in (_pycryptodome_cbc, _libcrypto_cbc):
        try:
            decrypt = load(plain, module)
        except (ImportError, OSError, AttributeError):
            continue
        return CbcCipher(key_size, block_size, decrypt)
    raise MachineError(f"no {name} on this machine: install pycryptodome")


def _pycryptodome_cbc(name: str, module: str) -> CbcInPlace:
    """Makes CBC from ECB and XOR, which for AES is five times as fast as pycryptodome's CBC."""
    cipher = importlib.import_module(f"Crypto.Cipher.{module}")
    options = _OPTIONS.get(module, {})
    from Crypto.Util.strxor import strxor

    def decrypt(key: bytes, previous: bytes, buffer: memoryview) -> None:
        blocks = cipher.new(key, cipher.MODE_ECB, **options)
        scratch = memoryview(bytearray(min(_MIX_SIZE, len(buffer))))
        for start in range(0, len(buffer), _MIX_SIZE):
            piece = buffer[start : start + _MIX_SIZE]
            plain = scratch[: len(piece)]
            blocks.decrypt(piece, output=plain)
            before = previous + bytes(piece[: -len(previous)])
            previous = bytes(piece[-len(previous) :])
            strxor(plain, before, output=piece)

    return decrypt


def _libcrypto_cbc(name: str, module: str) -> CbcInPlace:
    library = _load_libcrypto()

    def decrypt(key: bytes, previous: bytes, buffer: memoryview) -> None:
        _decrypt_by_libcrypto(library, name.encode("ascii"), key, previous, buffer)

    return decrypt
