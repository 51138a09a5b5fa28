"""What `openssl enc` and `openssl dgst` write is read as the real programs read it."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from qbackup import ChunkDamaged, UnsupportedFormat
from qbackup.base.errors import Damaged, MachineError
from qbackup.crypto.ciphers import CbcCipher, _libcrypto_cbc, choose_cbc
from qbackup.crypto.openssl import (
    LARGEST_BLOCK,
    SALTED_SIZE,
    CbcStream,
    bytes_to_key,
    choose_digest,
    digests_of_size,
    parse_hmac,
    proves,
)
from tests.maker import HMAC_TEXTS, run

SECRET = b"correct horse battery staple"
TEXT = random.Random(1).randbytes(5000)
CIPHERS = ("aes-128-cbc", "aes-192-cbc", "aes-256-cbc", "des-ede3-cbc")
LEGACY = ("des-cbc", "des-ede-cbc", "bf-cbc", "cast5-cbc", "rc2-cbc")


def encrypted(data: bytes, cipher: str, *more: str) -> bytes:
    secret = f"pass:{SECRET.decode()}"
    command = ["openssl", "enc", f"-{cipher}", "-md", "MD5", "-pass", secret, *more]
    return run(command, stdin=data)


def decrypted(stored: bytes, cipher: CbcCipher, sizes: Sequence[int]) -> bytes:
    """As formats do it: the first bytes are the salt, the rest comes in pieces of these sizes."""
    stream = CbcStream(cipher, SECRET, stored[:SALTED_SIZE])
    position, out = SALTED_SIZE, b""
    for size in sizes:
        body = memoryview(bytearray(LARGEST_BLOCK) + stored[position : position + size])
        out += stream.decrypt(body, LARGEST_BLOCK)
        position += size
    assert position >= len(stored)
    return out + stream.unpadded_rest()


@pytest.mark.usefixtures("tools")
class TestEncrypted:
    @pytest.mark.parametrize("name", CIPHERS)
    @pytest.mark.parametrize("length", [0, 1, 7, 8, 15, 16, 17, 4999, 5000])
    def test_gives_the_text_back(self, name: str, length: int) -> None:
        stored = encrypted(TEXT[:length], name)
        assert decrypted(stored, choose_cbc(name), [len(stored)]) == TEXT[:length]

    @pytest.mark.parametrize("name", ["aes-256-cbc", "des-ede3-cbc"])
    @pytest.mark.parametrize("seed", range(10))
    def test_however_it_is_cut(self, name: str, seed: int) -> None:
        stored = encrypted(TEXT, name)
        chance = random.Random(seed)
        sizes = [chance.choice([0, 1, 5, 16, 17, 100, 512]) for _ in range(2000)]
        assert decrypted(stored, choose_cbc(name), sizes) == TEXT

    @pytest.mark.parametrize("name", LEGACY)
    def test_ciphers_of_that_time(self, name: str) -> None:
        try:
            stored = encrypted(TEXT, name, "-provider", "legacy", "-provider", "default")
        except RuntimeError:
            if os.environ.get("CI"):
                pytest.fail("this openssl has no legacy ciphers")
            pytest.skip("this openssl has no legacy ciphers")
        assert decrypted(stored, choose_cbc(name.upper()), [len(stored)]) == TEXT

    @pytest.mark.parametrize("name", CIPHERS)
    def test_by_the_systems_own_library(self, name: str) -> None:
        """For machines without pycryptodome."""
        ours = choose_cbc(name)
        cipher = CbcCipher(ours.key_size, ours.block_size, _libcrypto_cbc(name, ""))
        assert decrypted(encrypted(TEXT, name), cipher, [1000] * 6) == TEXT

    def test_key_and_iv_are_those_that_openssl_prints(self) -> None:
        command = ["openssl", "enc", "-aes-256-cbc", "-md", "MD5", "-S", "0102030405060708", "-P"]
        said = run([*command, "-pass", f"pass:{SECRET.decode()}"]).decode()
        key, iv = bytes_to_key(SECRET, bytes(range(1, 9)), 32, 16)
        assert re.findall(r"=([0-9A-F]+)", said)[1:] == [key.hex().upper(), iv.hex().upper()]

    @pytest.mark.parametrize("length", [16, 100_000, 131_072, 131_088, 300_000])
    def test_the_fast_way_to_mix_is_the_librarys_own(self, length: int) -> None:
        from Crypto.Cipher import AES

        key, iv, data = bytes(range(32)), bytes(range(16)), bytearray(TEXT * 61)[:length]
        expected = AES.new(key, AES.MODE_CBC, iv).decrypt(bytes(data[: length // 16 * 16]))
        buffer = memoryview(data)[: length // 16 * 16]
        choose_cbc("aes-256-cbc").decrypt(key, iv, buffer)
        assert bytes(buffer) == expected


class TestCiphersThatAreNotThere:
    @pytest.mark.parametrize(
        "name", ["camellia-256-cbc", "aes-256-ctr", "rc4", "seed-cbc", "x", ""]
    )
    def test_are_named_in_a_clear_refusal(self, name: str) -> None:
        with pytest.raises(UnsupportedFormat, match="aes-256-cbc") as caught:
            choose_cbc(name)
        assert name in caught.value.reason

    def test_nothing_to_compute_with(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(name: str, module: str) -> None:
            raise ImportError(name)

        monkeypatch.setattr("qbackup.crypto.ciphers._pycryptodome_cbc", missing)
        assert choose_cbc("AES-256-CBC").key_size == 32
        monkeypatch.setattr("qbackup.crypto.ciphers._libcrypto_cbc", missing)
        with pytest.raises(MachineError, match="pycryptodome"):
            choose_cbc("aes-256-cbc")


class TestTheStreamsEnd:
    CIPHER = choose_cbc("aes-256-cbc")

    def stream(self, plain: bytes) -> CbcStream:
        """A stream of which all but the last block has been decrypted."""
        from Crypto.Cipher import AES

        key, iv = bytes_to_key(SECRET, b"saltsalt", 32, 16)
        stored = AES.new(key, AES.MODE_CBC, iv).encrypt(plain)
        stream = CbcStream(self.CIPHER, SECRET, b"Salted__saltsalt")
        stream.decrypt(memoryview(bytearray(LARGEST_BLOCK) + stored), LARGEST_BLOCK)
        return stream

    @pytest.mark.parametrize("count", range(1, 17))
    def test_the_padding_is_taken_off(self, count: int) -> None:
        block = bytes(16 - count) + bytes([count]) * count
        assert self.stream(block).unpadded_rest() == bytes(16 - count)

    @pytest.mark.parametrize(
        "block",
        [
            bytes(16),
            bytes(15) + b"\x11",
            bytes(15) + b"\xff",
            bytes(14) + b"\x01\x02",
            b"\x0f" * 14 + b"\0\x10",
        ],
    )
    def test_what_is_no_padding_is_damage(self, block: bytes) -> None:
        with pytest.raises(ChunkDamaged, match="padding"):
            self.stream(block).unpadded_rest()

    def test_a_part_of_a_block_is_damage(self) -> None:
        stream = CbcStream(self.CIPHER, SECRET, b"Salted__saltsalt")
        stream.decrypt(memoryview(bytearray(LARGEST_BLOCK + 15)), LARGEST_BLOCK)
        with pytest.raises(ChunkDamaged, match="within a block"):
            stream.unpadded_rest()

    @pytest.mark.parametrize("salted", [b"", b"Salted__salt", b"salted__saltsalt"])
    def test_without_a_salt_nothing_begins(self, salted: bytes) -> None:
        with pytest.raises(ChunkDamaged, match="does not begin"):
            CbcStream(self.CIPHER, SECRET, salted)


class TestHmacs:
    @pytest.mark.usefixtures("tools")
    @pytest.mark.parametrize(
        "name",
        ["SHA512", "sha512", "SHA384", "sha256", "SHA224", "SHA1", "ripemd160", "rmd160",
         "SHA3-512", "sha3-256", "BLAKE2b512", "BLAKE2s256", "SHA512-256", "SM3"],
    )  # fmt: skip
    def test_are_those_of_openssl(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(TEXT)
        command = ["openssl", "dgst", f"-{name}", "-hmac", SECRET.decode()]
        mac = parse_hmac(run(command, stdin=TEXT))
        digest = choose_digest(name)
        assert proves(SECRET, digest, memoryview(bytearray(TEXT)), mac)
        assert not proves(SECRET, digest, TEXT[1:], mac)
        assert not proves(SECRET + b"x", digest, TEXT, mac)
        assert not proves(SECRET, digest, TEXT, mac[:-1])
        assert digest in digests_of_size(len(mac))

    @pytest.mark.parametrize("text", [*HMAC_TEXTS.values(), "={hex}", "x=\t{hex} \r\n"])
    def test_in_every_spelling(self, text: str) -> None:
        said = text.format(hex="00aB" * 16, digest="SHA512").encode()
        assert parse_hmac(said) == b"\0\xab" * 16

    @pytest.mark.parametrize(
        "text",
        [b"", b"00ab", b"(stdin)= ", b"(stdin)= 0", b"(stdin)= 0g", b"(stdin)= 00 ab",
         b"a= \xc3\xa4", b"(stdin)= 00=00", "a= \N{FULLWIDTH DIGIT ONE}1".encode(),
         b"a= +1", b"a= 0_0_", b"a= 00" + bytes(4092)],
    )  # fmt: skip
    def test_everything_else_is_damage(self, text: bytes) -> None:
        with pytest.raises(Damaged, match="HMAC"):
            parse_hmac(text)

    def test_of_at_most_4096_bytes(self) -> None:
        assert parse_hmac(b"=00".ljust(4096)) == b"\0"
        with pytest.raises(Damaged, match="4096"):
            parse_hmac(b"=00".ljust(4097))

    def test_the_strongest_digests_come_first(self) -> None:
        assert digests_of_size(64)[0] == "sha512"
        assert digests_of_size(20)[0] == "sha1"
        assert digests_of_size(16) == [] == digests_of_size(36)

    @pytest.mark.parametrize("name", ["MD5", "md5", "md5-sha1"])
    def test_weak_ones_only_by_name(self, name: str) -> None:
        for allowed in (None, "sha1"):
            with pytest.raises(UnsupportedFormat, match=f"--hmac-algorithm {name}"):
                choose_digest(name, allowed=allowed)
        assert choose_digest(name, allowed=name.lower()) == name.lower()

    @pytest.mark.parametrize("name", ["", "sha", "shake128", "crc32", "scrypt", "sha5120"])
    def test_unknown_ones_are_named_in_a_clear_refusal(self, name: str) -> None:
        with pytest.raises(UnsupportedFormat, match=f"digest {name} "):
            choose_digest(name)

    def test_one_that_this_machine_has_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("qbackup.crypto.openssl._is_there", lambda digest: digest != "sha384")
        with pytest.raises(UnsupportedFormat, match="SHA384"):
            choose_digest("SHA384")
        assert digests_of_size(48) == ["sha3_384"]
