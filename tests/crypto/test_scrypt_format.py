"""The scrypt encrypted-data format, against files that the scrypt program made."""

from __future__ import annotations

import hashlib
import hmac
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbackup.base.errors import ChunkDamaged, LimitExceeded, UnsupportedFormat
from qbackup.base.limits import GIB, Limits
from qbackup.crypto.ciphers import choose_cipher
from qbackup.crypto.kdf import Derivation, Deriver
from qbackup.crypto.scrypt_format import (
    HEADER_SIZE,
    MAC_SIZE,
    OVERHEAD,
    EncryptedHeader,
    ScryptParameters,
    open_in_place,
)
from qbackup.formats import choose_format
from qbackup.formats.header import BackupHeader
from qbackup.formats.v4 import HeaderCopy, UnlockedFormat4
from tests.maker import published_header, scrypt_encrypt
from tests.support import vectorfiles

PASSPHRASE = b"backup-header!correct horse"
PLAINTEXT = b"what was encrypted, of no special length"
DECRYPT = choose_cipher().decrypt


@pytest.fixture(scope="module")
def stored(tools: None, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """PLAINTEXT, encrypted by the real program."""
    path = tmp_path_factory.mktemp("scrypt") / "file"
    return scrypt_encrypt(PLAINTEXT, path, PASSPHRASE).read_bytes()


def derive(header: EncryptedHeader, secret: bytes = PASSPHRASE) -> bytes:
    return Deriver().derive(Derivation(secret, header.salt, header.parameters))


@pytest.fixture(scope="module")
def key(stored: bytes) -> bytes:
    """The key of `stored`."""
    return derive(EncryptedHeader.parse(stored))


def decrypt(data: bytes, key: bytes) -> bytes:
    """Every check in its order, with a key that was derived before."""
    header = EncryptedHeader.parse(data)
    header.check_limits(Limits())
    if not header.accepts(key):
        raise ChunkDamaged("does not fit")
    return bytes(open_in_place(header, key, memoryview(bytearray(data[HEADER_SIZE:])), DECRYPT))


def forged_header(log2_n: int, r: int, p: int) -> bytes:
    """A header that anybody could write: its checksum fits, its MAC is nonsense."""
    front = b"scrypt\0" + struct.pack(">BII", log2_n, r, p) + bytes(32)
    return front + hashlib.sha256(front).digest()[:16] + bytes(32)


class TestRealFiles:
    def test_are_decrypted(self, stored: bytes, key: bytes) -> None:
        assert len(stored) == len(PLAINTEXT) + OVERHEAD
        assert decrypt(stored, key) == PLAINTEXT

    @pytest.mark.parametrize(
        ("options", "parameters"),
        [
            (("--logN", "10", "-r", "8", "-p", "1"), ScryptParameters(10, 8, 1)),
            (("--logN", "12", "-r", "4", "-p", "3"), ScryptParameters(12, 4, 3)),
        ],
    )
    def test_say_their_parameters(
        self, tools: None, tmp_path: Path, options: tuple[str, ...], parameters: ScryptParameters
    ) -> None:
        data = scrypt_encrypt(b"", tmp_path / "file", b"secret", options).read_bytes()
        header = EncryptedHeader.parse(data)
        assert header.parameters == parameters
        assert decrypt(data, derive(header, b"secret")) == b""

    @pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 100_000])
    def test_of_any_length(self, tools: None, tmp_path: Path, size: int) -> None:
        data = scrypt_encrypt(bytes(size), tmp_path / "file", b"secret").read_bytes()
        assert decrypt(data, derive(EncryptedHeader.parse(data), b"secret")) == bytes(size)

    def test_another_passphrase_does_not_fit(self, stored: bytes) -> None:
        header = EncryptedHeader.parse(stored)
        assert not header.accepts(derive(header, b"wrong"))


class TestDamage:
    def test_every_flipped_byte_is_refused_at_its_stage(self, stored: bytes, key: bytes) -> None:
        header = EncryptedHeader.parse(stored)
        for position in range(len(stored)):
            data = bytearray(stored)
            data[position] ^= 1
            if position < 64:  # the header's own checksum covers it, or is it
                with pytest.raises(ChunkDamaged):
                    EncryptedHeader.parse(bytes(data))
            elif position < HEADER_SIZE:
                changed = EncryptedHeader.parse(bytes(data))
                assert changed.parameters == header.parameters
                assert not changed.accepts(key)
            else:
                assert EncryptedHeader.parse(bytes(data)).accepts(key)
                with pytest.raises(ChunkDamaged, match="MAC"):
                    decrypt(bytes(data), key)

    @given(st.integers(0, len(PLAINTEXT) + OVERHEAD - 1))
    def test_wherever_it_is_cut_off(self, stored: bytes, key: bytes, size: int) -> None:
        with pytest.raises(ChunkDamaged):
            decrypt(stored[:size], key)

    @given(st.binary(min_size=1, max_size=40))
    def test_whatever_is_appended(self, stored: bytes, key: bytes, extra: bytes) -> None:
        with pytest.raises(ChunkDamaged, match="MAC"):
            decrypt(stored + extra, key)

    def test_a_changed_salt_or_parameter_with_its_checksum_mended_does_not_fit(
        self, stored: bytes
    ) -> None:
        for position in (7, 11, 15, 16, 47):
            data = bytearray(stored)
            data[position] ^= 2 if position == 15 else 1
            data[48:64] = hashlib.sha256(data[:48]).digest()[:16]
            header = EncryptedHeader.parse(bytes(data))
            assert not header.accepts(derive(header))

    @pytest.mark.parametrize(
        ("position", "value", "words"),
        [
            (0, 0, "^its content is not scrypt-encrypted data$"),
            (5, 0, "^its content is not scrypt-encrypted data$"),
            (6, 1, "version 1"),
            (48, 0, r"^its header is damaged \(the checksum differs\)$"),
        ],
    )
    def test_is_named(self, stored: bytes, position: int, value: int, words: str) -> None:
        data = bytearray(stored)
        data[position] = value if data[position] != value else value ^ 1
        with pytest.raises(ChunkDamaged, match=words):
            EncryptedHeader.parse(bytes(data))

    def test_a_header_that_is_cut_off_is_named(self, stored: bytes) -> None:
        with pytest.raises(ChunkDamaged, match=r"^cut off inside its header$"):
            EncryptedHeader.parse(stored[: HEADER_SIZE - 1])

    @given(st.binary(max_size=200))
    def test_other_bytes_are_no_header(self, data: bytes) -> None:
        with pytest.raises(ChunkDamaged):
            EncryptedHeader.parse(data)


class TestInPlace:
    def test_plaintext_stands_where_the_ciphertext_stood(self, stored: bytes, key: bytes) -> None:
        buffer = bytearray(stored[HEADER_SIZE:])
        plain = open_in_place(EncryptedHeader.parse(stored), key, memoryview(buffer), DECRYPT)
        assert plain.obj is buffer
        assert buffer[: len(PLAINTEXT)] == plain == PLAINTEXT
        assert bytes(buffer[-MAC_SIZE:]) == stored[-MAC_SIZE:]

    def test_a_buffer_whose_mac_differs_is_left_as_it_was(self, stored: bytes, key: bytes) -> None:
        for position in (0, -1):
            buffer = bytearray(stored[HEADER_SIZE:])
            buffer[position] ^= 1
            before = bytes(buffer)
            with pytest.raises(ChunkDamaged):
                open_in_place(EncryptedHeader.parse(stored), key, memoryview(buffer), DECRYPT)
            assert buffer == before

    def test_the_mac_covers_the_header_that_was_read_first(self, stored: bytes, key: bytes) -> None:
        """The very bytes that gave salt and parameters go into the MAC."""
        other = EncryptedHeader.parse(forged_header(10, 8, 1))
        body = memoryview(bytearray(stored[HEADER_SIZE:]))
        with pytest.raises(
            ChunkDamaged, match=r"^its content was altered or cut off \(the MAC differs\)$"
        ):
            open_in_place(other, key, body, DECRYPT)

    def test_a_body_shorter_than_a_mac_is_cut_off(self, stored: bytes, key: bytes) -> None:
        for size in (0, MAC_SIZE - 1):
            with pytest.raises(ChunkDamaged, match=r"^cut off$"):
                open_in_place(
                    EncryptedHeader.parse(stored), key, memoryview(bytearray(size)), DECRYPT
                )

    def test_agrees_with_the_format_s_own_words(self, stored: bytes, key: bytes) -> None:
        """Tarsnap/scrypt, FORMAT: HMAC-SHA-256 of bytes 0-63, and of all but the last 32."""
        assert hmac.digest(key[32:], stored[:64], "sha256") == stored[64:96]
        assert hmac.digest(key[32:], stored[:-32], "sha256") == stored[-32:]


class TestParameters:
    def test_say_what_they_cost(self) -> None:
        parameters = ScryptParameters(20, 8, 1)
        assert (parameters.n, parameters.lane_memory, parameters.work) == (1 << 20, GIB, 1 << 23)
        assert str(parameters) == "N=2^20, r=8, p=1"

    @pytest.mark.parametrize(
        ("log2_n", "r", "p", "limit"),
        [
            (40, 8, 1, "scrypt_memory"),
            (24, 8, 1, "scrypt_memory"),
            (10, 8, 1 << 20, "scrypt_lanes"),
            (10, 1 << 20, 1, "scrypt_lanes"),
            (22, 8, 9, "scrypt_work"),
            (1, 1, (1 << 17) + 1, "scrypt_lanes"),
        ],
    )
    def test_over_a_limit_are_refused_before_anything_is_derived(
        self, log2_n: int, r: int, p: int, limit: str
    ) -> None:
        header = EncryptedHeader.parse(forged_header(log2_n, r, p))
        with pytest.raises(LimitExceeded) as caught:
            header.check_limits(Limits())
        assert caught.value.limit == limit
        assert f"{limit}: {caught.value.needed}, and " in str(caught.value)

    @pytest.mark.parametrize(
        ("log2_n", "r", "p"),
        [(10, 8, 1), (18, 8, 7), (20, 8, 1), (21, 8, 1), (23, 8, 4), (1, 1, 1 << 17)],
    )
    def test_of_real_backups_are_let_through(self, log2_n: int, r: int, p: int) -> None:
        EncryptedHeader.parse(forged_header(log2_n, r, p)).check_limits(Limits())

    @pytest.mark.parametrize(
        ("log2_n", "r", "p"),
        [
            (0, 8, 1),
            (64, 8, 1),
            (255, 8, 1),
            (10, 0, 1),
            (10, 8, 0),
            (10, 1 << 15, 1 << 15),
            (10, 2**32 - 1, 2**32 - 1),
        ],
    )
    def test_that_scrypt_does_not_have_are_damage(self, log2_n: int, r: int, p: int) -> None:
        header = EncryptedHeader.parse(forged_header(log2_n, r, p))
        with pytest.raises(ChunkDamaged, match="impossible"):
            header.check_limits(Limits(scrypt_memory=1 << 80, scrypt_work=1 << 80))

    @pytest.mark.parametrize(("log2_n", "r", "p"), [(1, 8, 1), (63, 8, 1), (10, 2**30 - 1, 1)])
    def test_the_least_and_most_that_scrypt_has_are_no_damage(
        self, log2_n: int, r: int, p: int
    ) -> None:
        header = EncryptedHeader.parse(forged_header(log2_n, r, p))
        most = header.parameters
        header.check_limits(
            Limits(scrypt_memory=most.lane_memory, scrypt_work=most.work, scrypt_lanes=r * p)
        )

    @pytest.mark.parametrize(
        ("chunk", "header", "growth"),
        [
            ((21, 8, 1), (10, 8, 1), None),  # what writers ask for is never too much
            ((18, 8, 5), (10, 8, 1), None),
            ((22, 8, 1), (18, 8, 1), None),
            ((22, 8, 1), (18, 8, 5), None),
            ((22, 8, 1), (17, 8, 5), 32),
            ((23, 8, 1), (18, 8, 5), 32),
            ((18, 8, 80), (18, 8, 5), None),
            ((18, 8, 81), (18, 8, 5), 17),
        ],
    )
    def test_far_beyond_those_of_the_header_are_refused(
        self,
        chunk: tuple[int, int, int],
        header: tuple[int, int, int],
        growth: int | None,
    ) -> None:
        beside = ScryptParameters(*header)
        head = EncryptedHeader.parse(forged_header(*chunk))
        if growth is None:
            head.check_limits(Limits(), beside)
            return
        with pytest.raises(LimitExceeded) as caught:
            head.check_limits(Limits(), beside)
        assert (caught.value.limit, caught.value.needed) == ("scrypt_growth", growth)
        assert f"need {growth} times what those of the backup's header need" in str(caught.value)
        head.check_limits(Limits(scrypt_growth=growth), beside)

    @given(st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
    def test_whatever_they_are_nothing_but_our_errors_comes(
        self, log2_n: int, r: int, p: int
    ) -> None:
        header = EncryptedHeader.parse(forged_header(log2_n, r, p))
        assert header.parameters == ScryptParameters(log2_n, r, p)
        try:
            header.check_limits(Limits())
        except (ChunkDamaged, LimitExceeded):
            return
        assert header.parameters.lane_memory <= Limits().scrypt_memory
        assert header.parameters.work <= Limits().scrypt_work


class TestFormat4:
    ID = "20240917T101112-1234"

    def test_a_chunks_key_is_bound_to_backup_file_and_place(
        self, tools: None, tmp_path: Path
    ) -> None:
        name = "vm1/private.img.000"
        secret = f"{self.ID}!{name}!pass phrase".encode()
        data = scrypt_encrypt(PLAINTEXT, tmp_path / "file", secret).read_bytes()
        format_ = UnlockedFormat4(self.ID, b"pass phrase", Limits())
        locked = format_.parse_head(name, 0, data[: format_.head_size])
        assert locked.derivation.secret == secret
        key = Deriver().derive(locked.derivation)
        locked.require(key)
        body = memoryview(bytearray(data[format_.head_size :]))
        assert bytes(locked.open(key, body, None, DECRYPT).buffer) == PLAINTEXT

        for other in (
            UnlockedFormat4(self.ID, b"pass phrase", Limits()).parse_head(
                "vm1/private.img.001", 0, data[:96]
            ),
            UnlockedFormat4(self.ID, b"pass phrase", Limits()).parse_head(
                "vm12/private.img.000", 0, data[:96]
            ),
            UnlockedFormat4("another", b"pass phrase", Limits()).parse_head(name, 0, data[:96]),
            UnlockedFormat4(self.ID, b"Pass phrase", Limits()).parse_head(name, 0, data[:96]),
        ):
            with pytest.raises(ChunkDamaged, match="does not fit") as caught:
                other.require(Deriver().derive(other.derivation))
            assert caught.value.chunk == other.name

    def test_a_long_passphrase_is_cut_as_the_program_cuts_it(
        self, tools: None, tmp_path: Path
    ) -> None:
        name, passphrase = "vm1/private.img.000", b"x" * 3000
        secret = f"{self.ID}!{name}!".encode() + passphrase
        data = scrypt_encrypt(PLAINTEXT, tmp_path / "file", secret).read_bytes()
        locked = UnlockedFormat4(self.ID, passphrase, Limits()).parse_head(name, 0, data[:96])
        assert len(locked.derivation.secret) == 2047
        locked.require(Deriver().derive(locked.derivation))

    def test_errors_name_the_chunk(self, stored: bytes, key: bytes) -> None:
        format_ = UnlockedFormat4(self.ID, b"secret", Limits(scrypt_memory=1000))
        for head in (b"short", stored[:96]):
            with pytest.raises((ChunkDamaged, LimitExceeded)) as caught:
                format_.parse_head("vm1/\x1bx.000", 0, head)
            assert caught.value.chunk == "vm1/\\x1bx.000"
        copy = HeaderCopy(b"correct horse", stored[:96] + bytes(50), Limits())
        assert copy.accepts(key)
        with pytest.raises(ChunkDamaged) as caught:
            copy.open(key, DECRYPT)
        assert caught.value.chunk == "backup-header"

    def test_is_what_a_header_of_version_4_leads_to(self) -> None:
        header = BackupHeader.parse(published_header())
        format_ = choose_format(header.version)
        assert (format_.naming.suffix, format_.naming.hmac_suffix) == (".enc", None)
        unlocked = format_.unlock(header, b"secret", Limits())
        assert (unlocked.head_size, unlocked.overhead) == (96, 128)

    def test_other_versions_lead_nowhere_yet(self) -> None:
        with pytest.raises(UnsupportedFormat, match="999"):
            choose_format(999)

    def test_reads_the_header_copy_of_a_vector(self) -> None:
        description = vectorfiles.load("zstdmt-real-scrypt")
        data = vectorfiles.backup_path("zstdmt-real-scrypt").read_bytes()
        start = data.index(b"scrypt\0", 10_240)
        size = len(description["header"]) + OVERHEAD
        stored = data[start : start + size]
        copy = HeaderCopy(description["passphrase"].encode(), stored, Limits())
        key = Deriver().derive(copy.derivation)
        assert copy.accepts(key)
        assert copy.open(key, DECRYPT).decode() == description["header"]
