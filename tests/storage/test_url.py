"""Backups on other machines: read over HTTP, with and without ranges, and SFTP."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("fsspec")

from aiohttp import ClientTimeout
from fsspec.asyn import get_loop
from fsspec.implementations.http import HTTPFileSystem
from hypothesis import given
from hypothesis import strategies as st

import qbackup
from qbackup.base.errors import ConnectionBroken, UsageError
from qbackup.storage.sftp import Address, is_sftp, parse_address, with_config
from qbackup.storage.url import _Ranged, end_requests, is_url
from tests.support import vectorfiles
from tests.support.commandline import (
    SAMPLE,
    SAMPLE_FILE,
    SAMPLE_SECRET,
    finish,
    run,
    start,
    wait_for,
)
from tests.support.librarybackup import PASSPHRASE, Made
from tests.support.restored import Snapshot, snapshot
from tests.support.servers import (
    SSHD,
    Breaking,
    Circle,
    Elsewhere,
    Endless,
    Files,
    Locked,
    Ranges,
    Slow,
    Trickle,
    http_server,
    sftp_server,
)
from tests.support.speed import rows
from tests.support.tarbytes import member

MANY = vectorfiles.backup_path("xz-many-chunks")
KEY = ["-p", str(SAMPLE_FILE)]
KIB = 1 << 10
_RELAY = """
import os, select, socket, sys
there = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
while True:
    for end in select.select([0, there], [], [])[0]:
        data = os.read(0, 65536) if end == 0 else there.recv(65536)
        if not data:
            sys.exit()
        there.sendall(data) if end == 0 else os.write(1, data)
"""


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    out = tmp_path_factory.mktemp("expected") / "out"
    assert run("restore", SAMPLE, "-o", out, *KEY).status == 0
    return snapshot(out)


@pytest.fixture
def ranges() -> type[Ranges]:
    return type("Recorded", (Ranges,), {"asked": [], "failing": 0})


@pytest.fixture(scope="module")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    if SSHD is None or shutil.which("ssh-keygen") is None:
        if os.environ.get("CI"):
            pytest.fail("sshd is not installed")
        pytest.skip("sshd is not installed")
    pytest.importorskip("paramiko")
    with sftp_server(tmp_path_factory.mktemp("sftp")) as server:
        yield server


class TestHttp:
    @pytest.mark.slow
    def test_with_ranges(self, ranges: type[Ranges], expected: Snapshot, tmp_path: Path) -> None:
        with http_server(SAMPLE.parent, ranges) as url:
            ended = run("restore", f"{url}/{SAMPLE.name}", "-o", tmp_path / "out", *KEY)
        assert ended.status == 0, ended
        assert snapshot(tmp_path / "out") == expected
        assert ranges.asked

    @pytest.mark.slow
    def test_without_ranges_it_is_a_pipe(self, expected: Snapshot, tmp_path: Path) -> None:
        with http_server(SAMPLE.parent, Files) as url:
            ended = run("restore", f"{url}/{SAMPLE.name}", "-o", tmp_path / "out", *KEY)
            refused = run("list", f"{url}/{SAMPLE.name}", "--salvage", *KEY)
        assert ended.status == 0, ended
        assert snapshot(tmp_path / "out") == expected
        assert refused.status == 2
        assert "from a pipe" in refused.err

    @pytest.mark.parametrize("at", [20, 95])
    def test_a_connection_that_breaks_is_no_damage(
        self, expected: Snapshot, tmp_path: Path, at: int
    ) -> None:
        """Without ranges nothing more can be read; started again, it goes on."""
        out = tmp_path / "out"
        breaking: Any = type("At", (Breaking,), {"at": SAMPLE.stat().st_size * at // 100})
        with http_server(SAMPLE.parent, breaking) as url:
            ended = run("restore", f"{url}/{SAMPLE.name}", "-o", out, *KEY)
            assert ended.status == 5, ended
            assert "the connection broke" in ended.err
            assert "start the same command again" in ended.err
            assert "DAMAGED" not in ended.out + ended.err
            assert snapshot(out).items() <= expected.items()
            breaking.breaks = False
            assert run("restore", f"{url}/{SAMPLE.name}", "-o", out, *KEY).status == 0
        assert snapshot(out) == expected

    def test_words_for_a_server_are_not_those_for_a_drive(
        self, ranges: type[Ranges], made: Made
    ) -> None:
        with (
            http_server(made.path.parent, ranges) as url,
            qbackup.open(f"{url}/{made.path.name}", passphrase=PASSPHRASE) as backup,
        ):
            ranges.failing = len(ranges.asked) + 1
            (warning,) = backup.verify().warnings
        assert "the server, or the connection to it" in warning and "drive" not in warning

    @pytest.mark.slow
    def test_requests_are_few(self, ranges: type[Ranges], tmp_path: Path) -> None:
        """A small backup has more than fifty small parts, all in one or two windows."""
        with http_server(SAMPLE.parent, ranges) as url:
            assert run("verify", f"{url}/{SAMPLE.name}", *KEY).status == 0
        assert len(ranges.asked) < 10

    @pytest.mark.slow
    def test_one_file_of_a_large_backup_costs_no_more_than_it(
        self, ranges: type[Ranges], tmp_path: Path
    ) -> None:
        """What is not asked for stays where it is but for its headers."""
        data = SAMPLE.read_bytes()
        other = b"vm9/private.img.000.enc"
        filler = 4000 * 10240 - 512  # with its header, whole records
        end = data.rindex(b"vm2/private.img.000.enc") // 10240 * 10240
        path = tmp_path / "large"
        path.write_bytes(data[:end] + member(other, bytes(filler)) + data[end:])
        with http_server(tmp_path, ranges) as url:
            ended = run("verify", f"{url}/large", "vault", *KEY)
        assert ended.status == 0, ended
        assert sum(size for _, size in ranges.asked) < filler // 10

    @pytest.mark.parametrize("failing", [2, 4])
    def test_a_request_that_fails_is_made_again(
        self, ranges: type[Ranges], failing: int, made: Made
    ) -> None:
        with (
            http_server(made.path.parent, ranges) as url,
            qbackup.open(f"{url}/{made.path.name}", passphrase=PASSPHRASE) as backup,
        ):
            ranges.failing = len(ranges.asked) + failing
            assert backup.verify().ok
            assert len(ranges.asked) > ranges.failing

    def test_a_first_request_that_fails_makes_no_pipe_of_it(
        self, ranges: type[Ranges], made: Made
    ) -> None:
        ranges.failing = 1
        with (
            http_server(made.path.parent, ranges) as url,
            qbackup.open(f"{url}/{made.path.name}") as backup,
        ):
            assert backup.is_seekable

    @pytest.mark.slow
    def test_what_is_not_there(self, ranges: type[Ranges]) -> None:
        with http_server(SAMPLE.parent, ranges) as url:
            ended = run("info", f"{url}/nothing")
        assert ended.status == 2
        assert ended.err == f"qbackup: {url}/nothing: there is no such file\n"

    @pytest.mark.slow
    def test_a_server_that_is_not_there(self) -> None:
        ended = run("info", "http://127.0.0.1:1/backup")
        assert ended.status == 5
        assert "can't open the backup" in ended.err

    @pytest.mark.slow
    def test_a_server_that_goes_away(self, ranges: type[Ranges], made: Made) -> None:
        with (
            http_server(made.path.parent, ranges) as url,
            qbackup.open(f"{url}/{made.path.name}", passphrase=PASSPHRASE) as backup,
        ):
            ranges.failing = 1 << 30
            report = backup.verify(check=False)
        lost = [result for result in report.files if not result.ok]
        assert lost
        assert all("reading the backup failed" in str(result.error) for result in lost)

    @pytest.mark.slow
    def test_an_answer_that_flows_may_take_as_long_as_it_takes(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """aiohttp ends one after five minutes, which is nothing for a backup."""
        monkeypatch.setattr("aiohttp.client.DEFAULT_TIMEOUT", ClientTimeout(total=0.5))
        HTTPFileSystem.clear_instance_cache()
        slow = type("Slower", (Slow,), {"seconds": 1.0})
        with (
            http_server(SAMPLE.parent, slow) as url,
            qbackup.open(f"{url}/{SAMPLE.name}", passphrase=SAMPLE_SECRET) as backup,
        ):
            assert backup.verify().ok

    @pytest.mark.slow
    def test_a_server_that_falls_silent_is_not_waited_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("qbackup.storage.url._SILENCE_SECONDS", 0.5)
        slow = type("Silent", (Slow,), {"seconds": 20.0})
        with (
            http_server(SAMPLE.parent, slow) as url,
            qbackup.open(f"{url}/{SAMPLE.name}", passphrase=SAMPLE_SECRET) as backup,
            pytest.raises(ConnectionBroken, match="Timeout"),
        ):
            backup.verify(check=False)

    @rows("count", [3, 5, 7, 9, 11, 13, 15, 17], quick=0)
    def test_ctrl_c_while_data_come_ends_without_a_complaint_of_asyncio(self, count: int) -> None:
        """Before the mend a third of the interrupted runs complained."""
        values = {"asked": [], "failing": 0, "given": 0}
        trickle = cast(type[Trickle], type("Counted", (Trickle,), values))
        with http_server(MANY.parent, trickle) as url:
            arguments = ("verify", f"{url}/{MANY.name}")
            process = start(*arguments, env={"QBACKUP_PASSPHRASE": PASSPHRASE})
            wait_for(lambda: trickle.given >= count or process.poll() is not None)
            process.send_signal(signal.SIGINT)
            ended = finish(process, arguments)
        assert (ended.status, ended.err) == (130, "qbackup: interrupted\n")

    def test_no_request_is_left_at_the_end_of_the_program(self) -> None:
        loop = get_loop()
        task = asyncio.run_coroutine_threadsafe(asyncio.sleep(1000), loop)
        end_requests()
        with pytest.raises(CancelledError):
            task.result(60)
        assert loop.is_running()

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("handler", "words"),
        [(Circle, "redirects without end"), (Locked, "answers 401 Unauthorized")],
    )
    def test_what_it_answers_is_told(self, handler: type[Files], words: str) -> None:
        with http_server(SAMPLE.parent, handler) as url:
            ended = run("info", f"{url}/backup")
        assert ended.status == 5
        assert ended.err == f"qbackup: {url}/backup: can't open the backup: the server {words}\n"


class TestServersThatAnswerWrongly:
    def test_a_part_without_end_is_not_taken_into_memory(self) -> None:
        endless: type[Endless] = type("", (Endless,), {"asked": [], "failing": 0, "given": 0})
        with http_server(SAMPLE.parent, endless) as url:
            qbackup.open(f"{url}/{SAMPLE.name}").close()
        assert endless.given < 64 << 20

    @pytest.mark.slow
    def test_another_part_is_not_taken_for_it(self) -> None:
        """Then it can be read from its beginning only."""
        elsewhere = type("Elsewhere", (Elsewhere,), {"asked": [], "failing": 0})
        with http_server(SAMPLE.parent, elsewhere) as url:
            ended = run("verify", f"{url}/{SAMPLE.name}", *KEY)
        assert ended.status == 0, ended

    def test_more_than_was_asked_for_is_an_error_of_the_device(self) -> None:
        class Generous(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                return super().read(size) + b"more"

        with pytest.raises(OSError, match="more than was asked for") as caught:
            _Ranged(Generous(bytes(100)), 100).read(10)
        assert caught.value.errno == errno.EIO

    def test_an_end_that_comes_too_early_is_an_error_of_the_device(self) -> None:
        """It is asked again, and no archive is called cut off that is not."""
        file = _Ranged(io.BytesIO(bytes(50)), 100)
        file.seek(60)
        with pytest.raises(OSError, match="sends nothing") as caught:
            file.read(10)
        assert caught.value.errno == errno.EIO
        file.seek(100)
        assert file.read(10) == b""

    def test_what_a_protocol_says_is_made_visible(self) -> None:
        class Rude(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                raise RuntimeError("no\x1b]0;owned\x07\u202e at sftp://u:secret@host/x")

        with pytest.raises(OSError, match="owned") as caught:
            _Ranged(Rude(bytes(100)), 100).read(10)
        assert caught.value.strerror == "no\\x1b]0;owned\\x07\\u202e at sftp://host/x"

    @pytest.mark.slow
    def test_what_it_says_is_shown_without_secrets_and_printable(
        self, ranges: type[Ranges], made: Made
    ) -> None:
        with (
            http_server(made.path.parent, ranges) as url,
            qbackup.open(f"{url}/{made.path.name}?key=secret", passphrase=PASSPHRASE) as backup,
        ):
            ranges.failing = 1 << 30
            ranges.words = "no\x1b]0;owned\x9b"
            report = backup.verify(check=False)
        errors = [str(result.error) for result in report.bad]
        assert any("no\\x1b]0;owned" in error for error in errors), errors
        assert all(error.isprintable() and "secret" not in error for error in errors)


class TestSftp:
    def test_a_restore(self, sftp: tuple[str, Path], expected: Snapshot, tmp_path: Path) -> None:
        url, home = sftp
        out = tmp_path / "out"
        ended = run("restore", f"{url}{SAMPLE}", "-o", out, *KEY, env={"HOME": str(home)})
        assert ended.status == 0, ended
        assert snapshot(out) == expected

    def test_salvage(self, sftp: tuple[str, Path]) -> None:
        url, home = sftp
        ended = run("verify", f"{url}{SAMPLE}", "--salvage", *KEY, env={"HOME": str(home)})
        assert ended.status == 0, ended

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["a#b", "a?b", "a%23b", "a b#?%41.tar", "#", "ü"])
    def test_any_name_of_a_file(self, sftp: tuple[str, Path], tmp_path: Path, name: str) -> None:
        url, home = sftp
        shutil.copy(SAMPLE, tmp_path / name)
        ended = run("list", f"{url}{tmp_path}/{name}", *KEY, env={"HOME": str(home)})
        assert ended.status == 0, ended

    @pytest.mark.slow
    def test_an_escape_is_taken_for_one_where_nothing_is_called_so(
        self, sftp: tuple[str, Path], tmp_path: Path
    ) -> None:
        url, home = sftp
        shutil.copy(SAMPLE, tmp_path / "a#b c")
        ended = run("list", f"{url}{tmp_path}/a%23b%20c", *KEY, env={"HOME": str(home)})
        assert ended.status == 0, ended

    @pytest.mark.slow
    def test_an_alias_of_the_users_configuration(
        self, sftp: tuple[str, Path], tmp_path: Path
    ) -> None:
        url, home = sftp
        user, _, host = url.removeprefix("sftp://").partition("@")
        (tmp_path / ".ssh").mkdir()
        (tmp_path / ".ssh" / "config").write_text(
            f"Host nas\n  HostName 127.0.0.1\n  Port {host.partition(':')[2]}\n  User {user}\n"
            f"  IdentityFile {home}/.ssh/id_ed25519\n  IdentityFile ~/.ssh/not-there\n"
        )
        ended = run("list", f"sftp://nas{SAMPLE}", *KEY, env={"HOME": str(tmp_path)})
        assert ended.status == 0, ended

    @pytest.mark.slow
    def test_an_alias_that_is_reached_through_a_program(
        self, sftp: tuple[str, Path], tmp_path: Path
    ) -> None:
        url, home = sftp
        user, _, host = url.removeprefix("sftp://").partition("@")
        relay = tmp_path / "relay.py"
        relay.write_text(_RELAY)
        (tmp_path / ".ssh").mkdir()
        (tmp_path / ".ssh" / "config").write_text(
            f"Host nas\n  HostName nowhere.invalid\n  User {user}\n"
            f"  IdentityFile {home}/.ssh/id_ed25519\n"
            f"  ProxyCommand {sys.executable} {relay} {host.partition(':')[2]}\n"
        )
        ended = run("list", f"sftp://nas{SAMPLE}", *KEY, env={"HOME": str(tmp_path)})
        assert ended.status == 0, ended

    def test_a_configuration_that_makes_no_sense(self, tmp_path: Path) -> None:
        pytest.importorskip("paramiko")
        (tmp_path / ".ssh").mkdir()
        (tmp_path / ".ssh" / "config").write_text("= =\n\0")
        ended = run("list", "sftp://nas/backup", *KEY, env={"HOME": str(tmp_path)})
        assert ended.status in (2, 5) and "Traceback" not in ended.err

    @pytest.mark.slow
    def test_what_is_not_there(self, sftp: tuple[str, Path]) -> None:
        url, home = sftp
        ended = run("info", f"{url}/nothing", env={"HOME": str(home)})
        assert ended.status == 2
        assert "there is no such file" in ended.err


class TestAddresses:
    @pytest.mark.parametrize(
        ("url", "address"),
        [
            ("sftp://h/p", Address("h", "/p")),
            ("ssh://u@h:22/p/q#r?s", Address("h", "/p/q#r?s", "u", None, 22)),
            ("sftp://u:p@w:d@h/p", Address("h", "/p", "u", "p@w:d")),
            ("SFTP://[::1]:2222/p", Address("::1", "/p", None, None, 2222)),
        ],
    )
    def test_what_a_url_means(self, url: str, address: Address) -> None:
        assert is_sftp(url) and parse_address(url) == address

    @pytest.mark.parametrize(
        "url",
        [
            "sftp://", "sftp:///p", "sftp://h", "sftp://h:0/p", "sftp://h:99999/p", "sftp://h:x/p",
            "sftp://h#f/p", "sftp://[::1/p", "sftp://a b/p", "sftp://h/\0", "sftp://@/p",
        ],
    )  # fmt: skip
    def test_what_means_nothing(self, url: str) -> None:
        with pytest.raises(ValueError, match=r"URL|port"):
            parse_address(url)
        with pytest.raises(qbackup.UsageError):
            qbackup.open(url)

    @given(st.text(max_size=30))
    def test_no_text_is_a_python_error(self, text: str) -> None:
        with contextlib.suppress(ValueError):
            parse_address(f"sftp://{text}")

    @pytest.mark.parametrize(
        ("jump", "command"),
        [
            ("one", "ssh -W '[h]:22' -- one"),
            ("u@one:2222", "ssh -p 2222 -W '[h]:22' -- u@one"),
            ("one,two", "ssh -J one -W '[h]:22' -- two"),
            ("none", None),
        ],
    )
    def test_the_way_through_other_machines(self, jump: str, command: str | None) -> None:
        paramiko = pytest.importorskip("paramiko")
        config = paramiko.SSHConfig.from_text(f"Host nas\n  HostName h\n  ProxyJump {jump}\n")
        assert with_config(Address("nas", "/p"), config).proxy == command

    def test_the_url_counts_for_more(self) -> None:
        paramiko = pytest.importorskip("paramiko")
        config = paramiko.SSHConfig.from_text("Host *\n  User other\n  Port 99\n")
        address = with_config(Address("h", "/p", "me", None, 22), config)
        assert (address.user, address.port) == ("me", 22)


class TestNames:
    @pytest.mark.parametrize("text", ["http://h/x", "sftp://h/x", "s3://b/x", "HTTPS://h/x"])
    def test_urls(self, text: str) -> None:
        assert is_url(text)

    @pytest.mark.parametrize("text", ["/a/b", "a", "c:/b", "-", "a://", b"http://h/x", None])
    def test_no_urls(self, text: object) -> None:
        assert not is_url(text) or text == "a://"

    @pytest.mark.slow
    @pytest.mark.parametrize("url", ["http://[::1", "http://a\x1b[31mb/x"])
    def test_what_is_no_url_is_told_so(self, url: str) -> None:
        ended = run("info", url)
        assert ended.status == 2
        assert ended.err.startswith("qbackup: http://")
        assert "\x1b" not in ended.err

    def test_an_unknown_protocol(self) -> None:
        with pytest.raises(UsageError, match=r"[Pp]rotocol"):
            qbackup.open("gopher://host/backup")

    def test_without_fsspec_it_says_what_is_needed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "fsspec.core", None)
        with pytest.raises(UsageError, match=r"pip install 'fsspec\[http,sftp\]'"):
            qbackup.open("http://host/backup")
