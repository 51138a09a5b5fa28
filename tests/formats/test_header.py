"""``backup-header``: what is accepted, what is refused, and with which error."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbackup.base.errors import HeaderAltered, LimitExceeded, QBackupError, UnsupportedFormat
from qbackup.base.limits import Limits
from qbackup.base.names import encode
from qbackup.formats.header import (
    BackupHeader,
    guess_header,
    header_for_id,
    read_version,
    told_header,
)
from tests.maker import published_header

PLAIN = st.text("abcXYZ0189-", min_size=1, max_size=20)
FIELDS = {
    "version": "4",
    "encrypted": "True",
    "compressed": "True",
    "compression-filter": "gzip",
    "hmac-algorithm": "scrypt",
    "backup-id": "20240917T101112-1234",
}


def text(**changes: str | None) -> bytes:
    """A header with these keys changed, or left out; ``_`` stands for ``-``."""
    fields: dict[str, str | None] = dict(FIELDS)
    fields.update({key.replace("_", "-"): value for key, value in changes.items()})
    lines = (f"{key}={value}\n" for key, value in fields.items() if value is not None)
    return "".join(lines).encode()


class TestAcceptedHeaders:
    def test_the_writers_own(self) -> None:
        assert BackupHeader.parse(text()) == BackupHeader(
            version=4,
            encrypted=True,
            compressed=True,
            compression_filter="gzip",
            hmac_algorithm="scrypt",
            crypto_algorithm=None,
            backup_id="20240917T101112-1234",
        )

    def test_the_published_procedures_five_lines(self) -> None:
        header = BackupHeader.parse(published_header())
        assert header == BackupHeader.parse(text())

    def test_are_frozen(self) -> None:
        header = BackupHeader.parse(text())
        with pytest.raises(dataclasses.FrozenInstanceError):
            header.backup_id = "other"  # type: ignore[misc]

    def test_without_hmac_algorithm_format_4_means_scrypt(self) -> None:
        assert BackupHeader.parse(text(hmac_algorithm=None)).hmac_algorithm == "scrypt"

    @pytest.mark.parametrize("value", ["1", "true", "True", "TRUE", "yes", "Yes", "YES"])
    def test_what_means_true(self, value: str) -> None:
        assert BackupHeader.parse(text(compressed=value)).compressed
        assert BackupHeader.parse(text(encrypted=value)).encrypted

    @pytest.mark.parametrize("value", ["0", "false", "False", "no", "on", "y", "t", "11", "TrueX"])
    def test_anything_else_means_false_and_then_no_filter_counts(self, value: str) -> None:
        header = BackupHeader.parse(text(compressed=value))
        assert not header.compressed
        assert header.compression_filter is None

    def test_unknown_keys_are_ignored_whatever_they_hold(self) -> None:
        extra = b"new-key=1\nnew-key=2\nodd key!=\xc2\xa7?\n".replace(b"\xc2\xa7", b"$")
        for data in (text() + extra, extra + text()):
            assert BackupHeader.parse(data) == BackupHeader.parse(text())

    def test_line_ends_of_other_systems_and_empty_lines_do_no_harm(self) -> None:
        plain = BackupHeader.parse(text())
        assert BackupHeader.parse(text().replace(b"\n", b"\r\n")) == plain
        assert BackupHeader.parse(b"\n" + text().replace(b"\n", b"\n\n").rstrip()) == plain

    @pytest.mark.parametrize("version", ["04", "0004"])
    def test_a_version_may_have_zeros_in_front(self, version: str) -> None:
        """Qubes' own reader takes it for a number."""
        assert BackupHeader.parse(text(version=version)).version == 4

    def test_crypto_algorithm_is_kept(self) -> None:
        header = BackupHeader.parse(text(crypto_algorithm="aes-256-cbc"))
        assert header.crypto_algorithm == "aes-256-cbc"

    @given(PLAIN, PLAIN, st.sampled_from(["backup-id", "backup_id"]), st.randoms())
    def test_plain_values_in_any_order(
        self, backup_id: str, name: str, key: str, random: object
    ) -> None:
        fields = {**FIELDS, "compression-filter": name, key: backup_id}
        if key == "backup_id":
            del fields["backup-id"]
        lines = [f"{k}={v}\n" for k, v in fields.items()]
        random.shuffle(lines)  # type: ignore[attr-defined]
        header = BackupHeader.parse("".join(lines).encode())
        assert (header.backup_id, header.compression_filter) == (backup_id, name)


#: Whatever a user named: `qvm-backup --compress-filter` takes any string.
WORDS = [
    "/usr/bin/pigz",
    "gzip -3",
    "zstd -T0 --long=31 -5",
    "a_b.c;d",
    "\u00fcber",
    "a\x1b[2J\u202e",
    "x" * 60_000,
    "sh -c 'rm -rf /'",
]


class TestHeadersThatNobodyWrote:
    """Stand-ins for headers that are lost."""

    def test_an_id_alone(self) -> None:
        assert header_for_id(4, "1-2", compression_filter="xz") == BackupHeader(
            version=4,
            encrypted=True,
            compressed=True,
            compression_filter="xz",
            hmac_algorithm="scrypt",
            crypto_algorithm=None,
            backup_id="1-2",
        )
        bare = header_for_id(4, "1-2")
        assert (bare.compressed, bare.compression_filter) == (False, None)

    @pytest.mark.parametrize(("chunk", "encrypted"), [(b"Salted__", True), (b"work/", False)])
    def test_a_first_chunk(self, chunk: bytes, encrypted: bool) -> None:
        assert guess_header(chunk) == BackupHeader(
            version=2,
            encrypted=encrypted,
            compressed=False,
            compression_filter=None,
            hmac_algorithm="",
            crypto_algorithm="aes-256-cbc",
            backup_id="",
        )

    @pytest.mark.parametrize("cipher", ["aes-128-cbc", None])
    def test_what_chunks_show(self, cipher: str | None) -> None:
        assert told_header(
            3, hmac_algorithm="sha256", crypto_algorithm=cipher, compression_filter="bzip2"
        ) == BackupHeader(
            version=3,
            encrypted=cipher is not None,
            compressed=True,
            compression_filter="bzip2",
            hmac_algorithm="sha256",
            crypto_algorithm=cipher or "aes-256-cbc",
            backup_id="",
        )


class TestAnyString:
    """A value that is proven is what was written, so no rule of form refuses it as damage."""

    @pytest.mark.parametrize("value", [*WORDS, "", "\udcff\udcfe"])
    def test_a_filter_keeps_its_own_words(self, value: str) -> None:
        data = text(compression_filter="FILTER").replace(b"FILTER", encode(value))
        for proven in (False, True):
            header = BackupHeader.parse(data, proven=proven)
            assert header.compression_filter == value.strip(" \t\r")

    @pytest.mark.parametrize("value", WORDS)
    def test_where_nothing_is_compressed_it_does_not_matter(self, value: str) -> None:
        header = BackupHeader.parse(text(compressed="False", compression_filter=value))
        assert header.compression_filter is None

    def test_compressed_without_a_name_is_left_to_whoever_forces_a_filter(self) -> None:
        assert BackupHeader.parse(text(compression_filter=None)).compression_filter == ""

    @pytest.mark.parametrize("value", ["a_b", "a!b", "../x", "a b", "\u00fc", "=", "i" * 5000])
    def test_an_id_that_can_be_bound_into_a_key_is_used(self, value: str) -> None:
        assert BackupHeader.parse(text(backup_id=value)).backup_id == value

    @pytest.mark.parametrize(
        "data",
        [
            text(encrypted=None),
            text(backup_id=""),
            text(hmac_algorithm="SHA512"),
            text(hmac_algorithm=""),
            text(encrypted="False"),
            text(version="3"),
            text(version="5"),
            text() + b"line\n",
            text() + b"version=4\n",
        ],
    )
    def test_what_is_proven_and_not_understood_is_not_supported(self, data: bytes) -> None:
        with pytest.raises(UnsupportedFormat) as caught:
            BackupHeader.parse(data, proven=True)
        words = f"{caught.value} {caught.value.advice}"
        assert "damage" not in words and "altered" not in words
        assert caught.value.file == "backup-header"

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (
                text() + b"line\n",
                "backup-header: this program can't use the header, which is as it was written:"
                " it has a line without '='",
            ),
            (
                text(version="5"),
                "backup-header: the header says format 5, which this version of qbackup does"
                " not know",
            ),
        ],
    )
    def test_what_is_proven_and_not_understood_is_reported_in_full(
        self, data: bytes, words: str
    ) -> None:
        with pytest.raises(UnsupportedFormat) as caught:
            BackupHeader.parse(data, proven=True)
        assert str(caught.value) == words

    @pytest.mark.parametrize(
        ("data", "version"),
        [
            (text(), 4),
            (text(compression_filter="gzip -3", backup_id="\0", encrypted=None), 4),
            (b"no line\n\xff\xfe\nversion=4\nversion=3\n", 4),
            (text(version="3", hmac_algorithm="SHA512"), 3),
            (b"", 2),
        ],
    )
    def test_before_the_proof_the_version_alone_is_read(self, data: bytes, version: int) -> None:
        assert read_version(data, Limits()) == version

    @pytest.mark.parametrize("data", [text(version="5"), text(version="3"), text(version=None)])
    def test_a_version_that_nothing_can_prove_is_refused(self, data: bytes) -> None:
        with pytest.raises(UnsupportedFormat) as caught:
            read_version(data, Limits())
        assert "--salvage" in caught.value.advice


class TestDamagedHeaders:
    @pytest.mark.parametrize("key", ["encrypted", "compressed", "backup-id"])
    def test_a_required_key_is_missing(self, key: str) -> None:
        with pytest.raises(HeaderAltered):
            BackupHeader.parse(text(**{key: None}))

    @pytest.mark.parametrize("key", FIELDS)
    def test_a_known_key_twice(self, key: str) -> None:
        with pytest.raises(HeaderAltered, match=f"{key} twice"):
            BackupHeader.parse(text() + f"{key}={FIELDS[key]}\n".encode())

    def test_the_id_in_both_spellings(self) -> None:
        with pytest.raises(HeaderAltered, match="backup-id twice"):
            BackupHeader.parse(text() + b"backup_id=20240917T101112-1234\n")

    @pytest.mark.parametrize("value", ["", "a\0b", "a\rb"])
    def test_an_id_that_no_passphrase_line_can_hold(self, value: str) -> None:
        with pytest.raises(HeaderAltered, match="no key can hold") as caught:
            BackupHeader.parse(text(backup_id=value))
        assert caught.value.file == "backup-header"

    @pytest.mark.parametrize("key", ["version", "hmac-algorithm"])
    @pytest.mark.parametrize(
        "value", ["", "a b", "a/b", "a=b", "a\x1b[2J", "\u202ea", "x" * 60_000]
    )
    def test_a_value_that_is_shown_is_made_visible_and_short(self, key: str, value: str) -> None:
        with pytest.raises(QBackupError) as caught:
            BackupHeader.parse(text(**{key: value}))
        assert caught.value.file == "backup-header"
        assert str(caught.value).isprintable() and len(str(caught.value)) < 400

    @pytest.mark.parametrize("space", [b"\x0b", b"\x0c", b"\x1c", b"\x1f"])
    def test_what_only_looks_like_a_space_is_not_passed_over(self, space: bytes) -> None:
        header = BackupHeader.parse(text().replace(b"gzip\n", b"gzip" + space + b"\n"))
        assert header.compression_filter == "gzip" + space.decode()

    @pytest.mark.parametrize("line", [b"no equals sign\n", b"version\n", b"\xc3\xa9\n", b"\0\n"])
    def test_a_line_that_is_none(self, line: bytes) -> None:
        with pytest.raises(HeaderAltered):
            BackupHeader.parse(text() + line)

    def test_longer_than_the_limit(self) -> None:
        data = text() + b"x=" + b"y" * 70_000
        with pytest.raises(LimitExceeded) as caught:
            BackupHeader.parse(data)
        assert caught.value.limit == "header"
        assert BackupHeader.parse(data, Limits(header=len(data))).version == 4

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (text(version=None), "where format 2 has a digest"),
            (text(version="3"), "format 3"),
            (text(version="5"), "format 5"),
            (text(hmac_algorithm="SHA512"), "names SHA512"),
            (text(encrypted="False"), "'not encrypted'"),
            (text(encrypted=None), "does not say encrypted"),
            (text(backup_id="a\0b"), r"no key can hold: 'a\\x00b'"),
            (text() + b"version=4\n", "says version twice"),
            (text() + b"line\n", "a line without '='"),
            (text() + bytes(70_000), "the header is too long"),
        ],
    )
    def test_the_file_and_what_is_wrong_are_said(self, data: bytes, words: str) -> None:
        with pytest.raises(QBackupError, match=words) as caught:
            BackupHeader.parse(data)
        assert caught.value.file == "backup-header"

    def test_a_value_of_any_length_is_shown_short(self) -> None:
        with pytest.raises(HeaderAltered) as caught:
            BackupHeader.parse(text(backup_id="_" * 60_000 + "\0"))
        assert str(caught.value).count("_") == 80

    @given(st.binary(max_size=300))
    def test_any_bytes_give_a_header_or_an_error_of_ours(self, data: bytes) -> None:
        with pytest.raises(QBackupError):
            BackupHeader.parse(data)

    @given(st.data())
    def test_a_changed_header_never_means_another_id_unnoticed(self, data: st.DataObject) -> None:
        changed = bytearray(text())
        position = data.draw(st.integers(0, len(changed) - 1))
        changed[position] = data.draw(st.integers(0, 255))
        try:
            header = BackupHeader.parse(bytes(changed))
        except QBackupError:
            return
        assert header.version == 4
        assert header.encrypted
        assert header.hmac_algorithm == "scrypt"


class TestOtherFormats:
    @pytest.mark.parametrize("version", [b"version=2\n", b""])
    def test_format_2_names_a_version_or_none(self, version: bytes) -> None:
        data = version + b"hmac-algorithm=SHA512\nencrypted=True\ncompressed=True\n"
        header = BackupHeader.parse(data)
        assert (header.version, header.encrypted, header.compressed) == (2, True, True)
        assert (header.hmac_algorithm, header.crypto_algorithm) == ("SHA512", "aes-256-cbc")
        assert (header.compression_filter, header.backup_id) == ("gzip", "")

    def test_format_2_may_leave_the_digest_to_be_found(self) -> None:
        assert BackupHeader.parse(b"encrypted=True\ncompressed=False\n").hmac_algorithm == ""

    def test_format_3_has_a_digest_and_a_cipher_and_no_id(self) -> None:
        header = BackupHeader.parse(b"version=3\nencrypted=yes\ncompressed=0\nbackup-id=x\n")
        assert (header.version, header.encrypted, header.compressed) == (3, True, False)
        assert (header.hmac_algorithm, header.crypto_algorithm) == ("SHA512", "aes-256-cbc")
        assert header.backup_id == ""

    def test_format_2_is_never_proved_by_scrypt(self) -> None:
        with pytest.raises(UnsupportedFormat, match="format 2"):
            BackupHeader.parse(text(version=None))

    @pytest.mark.parametrize(
        "version", ["0", "1", "5", "44", "999999", "00004", "4a", "-4", "9" * 5000]
    )
    def test_unknown_ones_are_refused(self, version: str) -> None:
        with pytest.raises(UnsupportedFormat, match="format"):
            BackupHeader.parse(text(version=version))

    def test_format_4_is_never_proved_by_an_hmac(self) -> None:
        with pytest.raises(UnsupportedFormat, match="SHA512"):
            BackupHeader.parse(text(hmac_algorithm="SHA512"))

    def test_format_4_is_always_encrypted(self) -> None:
        with pytest.raises(
            UnsupportedFormat, match=r"the header says 'not encrypted', which format 4 never is$"
        ):
            BackupHeader.parse(text(encrypted="False"))
