"""No message about a URL shows its password, whatever characters that has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import qbackup
from qbackup.storage.url_secrets import is_torn, printable, without_secrets
from tests.support.commandline import run
from tests.support.speed import rows


class TestWithoutSecrets:
    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("sftp://user:secret@host:22/a/b?token=secret#secret", "sftp://host:22/a/b"),
            (
                "zip://backup::http://user:secret@host/a.zip?key=secret",
                "zip://backup::http://host/a.zip",
            ),
            ("http://user:sec/ret@host/a", "http://…@host/a"),
            ("http://user:sec?ret@host/a", "http://…@host/a"),
            ("http://user:sec#ret@host/a", "http://…@host/a"),
            ("http://user:/sec@re?t@host/a?secret", "http://…@host/a"),
            ("http://user:se cret@host/a", "http://host/a"),
            ("http://user:se\ncret@host/a", "http://host/a"),
            ("simplecache::http://user:secret@host/a", "simplecache::http://host/a"),
            ("http:/user:secret@host/a", "http://host/a"),
            ("http:/user:sec/ret@host/a", "http://…@host/a"),
            ("http://host/a", "http://host/a"),
            ("http://host/a@b", "http://…@b"),
        ],
    )
    def test_up_to_the_last_at_sign_all_is_hidden(self, url: str, shown: str) -> None:
        assert without_secrets(url) == shown
        assert is_torn(url) == ("…" in shown)

    @given(st.text(alphabet="ab/?#@:. %\n", max_size=12))
    def test_no_part_of_any_password_is_left(self, rest: str) -> None:
        for url in (f"http://user:S{rest}S@host/a", f"zip://x::sftp://u:{rest}S@host/a"):
            assert "S" not in without_secrets(url)

    @pytest.mark.parametrize(
        "password",
        ["secret", "sec/ret", "sec?ret", "sec#r/e?t", "se@cret", "se c ret", "se\nc\tret"],
    )
    def test_nor_in_a_text_that_has_it(self, password: str) -> None:
        text = printable(f"can't open 'http://user:{password}@host/a?b=secret': gone")
        assert "ret" not in text
        assert text.endswith(": gone")


class TestMessages:
    @rows("command", ["info", "list", "verify"])
    @rows(
        "url",
        [
            "http://user:secret@127.0.0.1:1/backup?key=secret",
            "http://user:sec/ret@127.0.0.1:1/backup",
            "http://user:sec?ret@127.0.0.1:1/backup",
            "sftp://user:secret@127.0.0.1:1/backup",
            "sftp://user:sec/ret@127.0.0.1:1/backup",
            "sftp://user:sec#ret@127.0.0.1:1/backup",
            "ftp://user:sec/ret@127.0.0.1:1/backup",
            "gopher://user:sec/ret@host/backup",
            "simplecache::http://user:sec/ret@127.0.0.1:1/backup",
            "http:/user:secret@127.0.0.1:1/backup",
            "SFTP:/user:sec/ret@127.0.0.1:1/backup",
        ],
    )
    def test_no_command_shows_it(self, command: str, url: str) -> None:
        pytest.importorskip("paramiko")
        ended = run(command, url, "--json", env={"QBACKUP_PASSPHRASE": "x"})
        assert ended.status in (2, 5)
        assert ended.err.startswith("qbackup: ")
        for part in ("sec", "ret"):
            assert part not in ended.err + ended.out

    @pytest.mark.parametrize("rest", ["cret@host/a", "c ret@host/a", "c@ret@host/a"])
    def test_nor_what_a_shell_has_cut_off_at_a_space(self, rest: str) -> None:
        ended = run("list", "http://user:se", *rest.split(" "))
        assert ended.status == 2
        assert "ret" not in ended.err
        assert "@host/a (see: qbackup list --help)" in ended.err

    def test_what_can_be_done_is_told(self) -> None:
        pytest.importorskip("fsspec")
        with pytest.raises(qbackup.QBackupError, match="write these as %2F, %3F and %23"):
            qbackup.open("http://user:pass/word@127.0.0.1:1/backup")
