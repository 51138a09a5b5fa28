"""`--limit NAME=VALUE`: a bound that stops good data is named by its error, and can be raised.

What meets a limit has the status `limit`, never "damaged"; all else is restored.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import qbackup
from qbackup import LimitExceeded, Limits
from qbackup.base.errors import UsageError
from qbackup.cli.options import parse
from qbackup.content.decoder_memory import decoder_memory
from tests.maker import run
from tests.support.commandline import SMALL, SMALL_SECRET, call
from tests.testkit import vector

GIB = 1 << 30


def of(name: str, folder: Path) -> list[str]:
    """A vector of the testkit as a file, with the option that unlocks it."""
    chosen = vector.parse(name, vector.path_of(name).read_bytes())
    path, secret = folder / "backup", folder / "passphrase"
    path.write_bytes(chosen.backup)
    secret.write_bytes(chosen.passphrase + b"\n")
    return [str(path), "-p", str(secret)]


class TestOption:
    @pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Limits)])
    def test_every_field_can_be_set(self, name: str) -> None:
        options = parse(["info", "BACKUP", "--limit", f"{name}=3"])
        assert options.limits == dataclasses.replace(Limits(), **{name: 3})

    @pytest.mark.parametrize(
        ("text", "value"),
        [("7", 7), ("2K", 2048), ("3m", 3 << 20), ("2GiB", 2 * GIB), ("1T", 1 << 40)],
    )
    def test_sizes_take_suffixes(self, text: str, value: int) -> None:
        options = parse(["info", "BACKUP", "--limit", f"file_size={text}"])
        assert options.limits.file_size == value

    def test_may_be_given_again_and_the_last_of_a_name_counts(self) -> None:
        words = ["--limit", "qubes=1", "--limit", "members=2", "--limit", "qubes=3"]
        assert parse(["ls", "IMAGE:/", *words]).limits == Limits(qubes=3, members=2)
        assert parse(["ls", "IMAGE:/"]).limits is None

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("decoder-memory=1G", "similar names: decoder_memory"),
            ("memory=1G", "scrypt_memory"),
            ("sparse=5", "sparse_entries"),
            ("zzz=1", "the limits are: scrypt_memory, scrypt_work"),
            ("qubes", "is not NAME=VALUE"),
            ("qubes=", "not a size"),
            ("qubes=0", "not a size"),
            ("qubes=-1", "not a size"),
            ("qubes=many", "not a size"),
            ("file_size=99999999T", "more than any limit can be"),
        ],
    )
    def test_what_makes_no_sense_is_status_2(self, text: str, says: str) -> None:
        with pytest.raises(UsageError, match=says):
            parse(["restore", "BACKUP", "-o", "DIR", "--limit", text])

    @pytest.mark.parametrize("command", ["info", "list", "verify", "cat", "ls", "cp", "restore"])
    def test_every_command_that_opens_something_has_it(self, command: str) -> None:
        help_text = call(command, "--help").out
        assert "--limit NAME=VALUE" in help_text

    def test_the_front_over_a_limit_is_status_4(self, tmp_path: Path) -> None:
        secret = tmp_path / "passphrase"
        secret.write_text(SMALL_SECRET + "\n")
        words = [str(SMALL), "-p", str(secret)]
        ended = call("list", *words, "--limit", "scrypt_work=100")
        assert ended.status == 4
        assert "--limit scrypt_work=8192" in ended.err
        assert call("list", *words, "--limit", "scrypt_work=8K").status == 0

    @pytest.mark.parametrize("command", ["info", "list", "verify"])
    @pytest.mark.parametrize(("members", "status"), [(1, 4), (2, 1), (3, 1)])
    def test_too_many_members_name_the_option(
        self, command: str, members: int, status: int, tmp_path: Path
    ) -> None:
        """Behind the header, its copy or some chunks: a limit, and neither damage nor a cut."""
        secret = tmp_path / "passphrase"
        secret.write_text(SMALL_SECRET + "\n")
        words = [command, str(SMALL), "-p", str(secret), "--limit", f"members={members}"]
        ended = call(*words)
        is_list_lost = command == "list" and members == 2  # without ``qubes.xml`` nothing is named
        assert ended.status == (4 if is_list_lost else status)
        assert "--limit members=" in ended.out + ended.err


@pytest.mark.parametrize("name", ["window-zstd", "window-xz"])
class TestLargeWindows:
    """`zstd --long=31`, `xz --lzma2=dict=256MiB`: the header says plain `zstd` and `xz`."""

    def test_are_a_limit_of_one_file_that_names_the_option(self, name: str, tmp_path: Path) -> None:
        ended = call("restore", *of(name, tmp_path), "-o", str(tmp_path / "out"))
        assert ended.status == 1
        assert "LIMIT  work/private.img: " in ended.out
        assert "DAMAGED" not in ended.out
        assert "raise the limit: --limit decoder_memory=" in ended.out
        assert (tmp_path / "out/qubes.xml").exists()

    def test_in_json(self, name: str, tmp_path: Path) -> None:
        document = call("verify", *of(name, tmp_path), "--json").document
        (file,) = (file for file in document["files"] if file["status"] != "ok")
        assert (file["status"], file["limit"]) == ("limit", "decoder_memory")
        assert file["advice"] in document["advice"]

    def test_with_what_the_error_asks_for_the_file_comes_out(
        self, name: str, tmp_path: Path
    ) -> None:
        words = of(name, tmp_path)
        secret = (tmp_path / "passphrase").read_text()[:-1]
        with (
            qbackup.open(words[0], passphrase=secret) as one,
            pytest.raises(LimitExceeded) as caught,
            one.open("work/private.img") as stream,
        ):
            stream.read()
        needed = caught.value.needed
        assert needed is not None
        out = str(tmp_path / "out")
        for value, status in ((needed - (1 << 20) - 1, 1), (needed, 0)):
            ended = call("restore", *words, "-o", out, "--limit", f"decoder_memory={value}")
            assert ended.status == status

    def test_kept_or_not_nothing_is_said_to_be_damaged(self, name: str, tmp_path: Path) -> None:
        words = [*of(name, tmp_path), "-o", str(tmp_path / "out")]
        ended = call("restore", *words, "--keep-damaged")
        assert ended.status == 1
        assert "LIMIT  work/private.img" in ended.out and "DAMAGED" not in ended.out


class TestWindows:
    @pytest.mark.parametrize("log2", [10, 20, 27, 28, 31])
    def test_of_zstd_streams_of_unknown_length(self, tools: None, log2: int) -> None:
        stream = run(["zstd", f"--zstd=wlog={log2}", "--ultra", "-c"], stdin=b"x" * 5000)
        assert decoder_memory("zstd", stream[:64]) == 1 << log2

    def test_of_a_zstd_stream_in_one_segment(self, tools: None, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(bytes(70_000))
        stream = run(["zstd", "-c", str(tmp_path / "file")])
        assert decoder_memory("zstd", stream[:64]) == 1 << 17

    @pytest.mark.parametrize("kib", [4, 64, 96, 1024, 65536])
    def test_of_xz_and_lzma(self, tools: None, kib: int) -> None:
        stream = run(["xz", f"--lzma2=dict={kib}KiB", "-c"], stdin=b"x" * 5000)
        assert decoder_memory("xz", stream[:64]) == (kib << 10) + (1 << 20)
        old = run(["xz", "--format=lzma", f"--lzma1=dict={kib}KiB", "-c"], stdin=b"x" * 5000)
        assert decoder_memory("lzma", old[:64]) == (kib << 10) + (1 << 20)

    def test_behind_another_filter_of_xz(self, tools: None) -> None:
        stream = run(["xz", "--x86", "--lzma2=dict=2MiB", "-c"], stdin=b"x" * 5000)
        assert decoder_memory("xz", stream[:64]) == 3 << 20

    @pytest.mark.parametrize("name", ["zstd", "xz", "lzma"])
    @pytest.mark.parametrize("head", [b"", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"\xff" * 64])
    def test_any_bytes_give_a_number_or_nothing(self, name: str, head: bytes) -> None:
        found = decoder_memory(name, head)
        assert found is None or found > 0


def test_a_filter_whose_streams_name_no_memory_is_not_read_as_another() -> None:
    for name in ("gzip", "bzip2", "unheard-of"):
        assert decoder_memory(name, bytes(range(1, 65))) is None
