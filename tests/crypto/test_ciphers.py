"""AES-256-CTR in place: three implementations, one result."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qbackup.base.errors import MachineError
from qbackup.crypto.ciphers import IMPLEMENTATIONS, Cipher, choose_cipher

CIPHERS = [load() for load in IMPLEMENTATIONS]

# From NIST SP 800-38A, F.1.5 (ECB-AES256): CTR's key stream begins with the cipher of zeros,
# so a counter of zero gives what AES gives for a zero block: FIPS 197's known answer for it.
ZERO_KEY_STREAM = "dc95c078a2408989ad48a21492842087530f8afbc74536b9a963b4f1c4cb738b"


def decrypt(cipher: Cipher, key: bytes, data: bytes) -> bytes:
    buffer = bytearray(data)
    cipher.decrypt(key, memoryview(buffer))
    return bytes(buffer)


@pytest.mark.parametrize("cipher", CIPHERS, ids=lambda cipher: cipher.name)
class TestEachImplementation:
    def test_begins_with_nonce_and_counter_zero(self, cipher: Cipher) -> None:
        """The key stream for a key of zeros: AES-256 of the blocks 0 and 1."""
        assert decrypt(cipher, bytes(32), bytes(32)).hex() == ZERO_KEY_STREAM

    def test_works_in_the_buffer_it_is_given_and_nowhere_else(self, cipher: Cipher) -> None:
        buffer = bytearray(b"before" + bytes(40) + b"after")
        cipher.decrypt(bytes(32), memoryview(buffer)[6:46])
        assert buffer.startswith(b"before")
        assert buffer.endswith(b"after")
        assert buffer[6:38].hex() == ZERO_KEY_STREAM

    def test_twice_is_not_at_all(self, cipher: Cipher) -> None:
        data = bytes(range(256)) * 300
        assert decrypt(cipher, b"k" * 32, decrypt(cipher, b"k" * 32, data)) == data


def test_a_library_that_fails_is_the_machines_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        """A libcrypto whose every function answers 0."""

        def __getattr__(self, name: str) -> Callable[..., int]:
            return lambda *arguments: 0

    monkeypatch.setattr("ctypes.CDLL", lambda path: Failing())
    cipher = IMPLEMENTATIONS[1]()
    with pytest.raises(MachineError, match="libcrypto"):
        cipher.decrypt(bytes(32), memoryview(bytearray(16)))


class TestTogether:
    @given(st.binary(min_size=32, max_size=32), st.binary(min_size=1, max_size=200))
    @settings(deadline=None)
    def test_all_give_the_same(self, key: bytes, data: bytes) -> None:
        assert len({decrypt(cipher, key, data) for cipher in CIPHERS}) == 1

    def test_the_counter_goes_on_from_piece_to_piece(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            "qbackup.crypto.ciphers._PIECE_SIZE", 4096
        )  # what libcrypto takes at once
        data = bytes(70_000)  # past 4096 blocks
        assert len({decrypt(cipher, b"k" * 32, data) for cipher in CIPHERS}) == 1


class TestChoice:
    @pytest.mark.parametrize(
        ("blocked", "without_libcrypto", "name"),
        [
            ([], False, "pycryptodome"),
            (["Crypto"], False, "libcrypto"),
            (["Crypto"], True, "pyscrypt"),
        ],
    )
    def test_takes_the_fastest_that_can_be_loaded(
        self, blocked: list[str], without_libcrypto: bool, name: str
    ) -> None:
        program = (
            "import sys, ctypes.util\n"
            f"for name in {blocked!r}: sys.modules[name] = None\n"
            f"if {without_libcrypto}: ctypes.util.find_library = lambda name: None\n"
            "from qbackup.crypto.ciphers import choose_cipher\n"
            "cipher = choose_cipher()\n"
            "buffer = bytearray(32)\n"
            "cipher.decrypt(bytes(32), memoryview(buffer))\n"
            "print(cipher.name, buffer.hex())\n"
        )
        out = subprocess.check_output([sys.executable, "-c", program], text=True)
        assert out.split() == [name, ZERO_KEY_STREAM]

    def test_a_library_that_is_another_one_is_passed_over(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("ctypes.util.find_library", lambda name: "libc.so.6")
        monkeypatch.setitem(sys.modules, "Crypto", None)
        monkeypatch.setitem(sys.modules, "Crypto.Cipher", None)
        assert choose_cipher().name == "pyscrypt"

    def test_with_nothing_at_all_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        none: tuple[Callable[[], Cipher], ...] = ()
        monkeypatch.setattr("qbackup.crypto.ciphers.IMPLEMENTATIONS", none)
        with pytest.raises(MachineError, match="install pycryptodome"):
            choose_cipher()
