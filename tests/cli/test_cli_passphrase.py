"""Where the passphrase comes from, on the command line: file, program, environment, terminal."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

import qbackup
from qbackup.cli import passphrase
from qbackup.cli.main import main
from tests.conftest import MakerFactory
from tests.support import vectorfiles
from tests.support.commandline import (
    SAMPLE,
    SAMPLE_FILE,
    SAMPLE_SECRET,
    SMALL,
    SMALL_SECRET,
    Ended,
    Terminal,
    call,
    run,
    wait_for,
)
from tests.support.speed import rows

OTHER_WAYS = (
    "--passphrase-file",
    "--passphrase-command",
    "QBACKUP_PASSPHRASE,",
    "QBACKUP_PASSPHRASE_FILE",
    "QBACKUP_PASSPHRASE_COMMAND",
)
WHITE_SPACE_SAID = "white space at the end of"
LINES_SAID = "has several lines: only the first one is used"


def python(code: str) -> str:
    """A passphrase command that runs a line of Python."""
    return shlex.join([sys.executable, "-c", code])


def listed(ended: Ended) -> bool:
    """Whether the small backup was unlocked and listed."""
    return ended.status == 0 and "personal" in ended.out


class TestFile:
    @pytest.mark.parametrize("end", ["", "\n", "\r\n"])
    def test_one_line_end_is_dropped(self, end: str, tmp_path: Path) -> None:
        (tmp_path / "p").write_bytes((SMALL_SECRET + end).encode())
        ended = call("list", SMALL, "-p", tmp_path / "p")
        assert listed(ended)
        assert ended.err == ""

    @pytest.mark.slow
    @pytest.mark.parametrize("option", ["-p", "--passphrase-file"])
    @pytest.mark.parametrize("end", ["", "\n", "\r\n"])
    def test_standard_input(self, option: str, end: str) -> None:
        assert listed(run("list", SMALL, option, "-", stdin=(SMALL_SECRET + end).encode()))

    @pytest.mark.slow
    def test_utf_8(self, tmp_path: Path) -> None:
        path = vectorfiles.backup_path("bzip2-utf8-passphrase")
        secret = vectorfiles.load("bzip2-utf8-passphrase")["passphrase"]
        (tmp_path / "p").write_text(secret, "utf-8")
        for more in ({}, {"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"}):
            ended = run("list", path, "-p", tmp_path / "p", env=more)
            assert ended.status == 0
            assert secret not in ended.out + ended.err

    def test_one_past_what_scrypt_reads(self, tmp_path: Path) -> None:
        path = vectorfiles.backup_path("lzma-long-passphrase")
        (tmp_path / "p").write_text(vectorfiles.load("lzma-long-passphrase")["passphrase"], "utf-8")
        assert call("list", path, "-p", tmp_path / "p").status == 0

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["info", "list", "verify", "restore", "cat"])
    def test_standard_input_for_two_things_is_refused(self, name: str, tmp_path: Path) -> None:
        more = {"restore": ["-o", str(tmp_path / "out")], "cat": ["personal/private.img"]}
        arguments = [name, "-", *more.get(name, [])]
        for ended in (
            run(*arguments, "-p", "-", stdin=SMALL.read_bytes()),
            run(*arguments, env={"QBACKUP_PASSPHRASE_FILE": "-"}, stdin=SMALL.read_bytes()),
        ):
            assert ended.status == 2
            assert "standard input" in ended.err
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("space", [" ", " \t ", "\t", "\x0b"])
    def test_trailing_white_space_is_tried_without_and_said(
        self, space: str, tmp_path: Path
    ) -> None:
        (tmp_path / "p").write_text(f"{SMALL_SECRET}{space}\n")
        ended = call("list", SMALL, "-p", tmp_path / "p")
        assert listed(ended)
        assert WHITE_SPACE_SAID in ended.err
        assert str(tmp_path / "p") in ended.err

    def test_white_space_that_belongs_to_it_is_kept(
        self, maker: MakerFactory, tmp_path: Path
    ) -> None:
        backup = maker(passphrase=f"{SMALL_SECRET}  ")
        backup.add_qube("personal", files={"private.img": b"data"})
        path = backup.write(tmp_path / "b")
        (tmp_path / "p").write_text(f"{SMALL_SECRET}  \n")
        ended = call("list", path, "-p", tmp_path / "p")
        assert listed(ended)
        assert ended.err == ""

    def test_white_space_in_front_is_never_dropped(self, tmp_path: Path) -> None:
        (tmp_path / "p").write_text(f" {SMALL_SECRET}\n")
        assert call("list", SMALL, "-p", tmp_path / "p").status == 3

    def test_without_white_space_it_may_be_wrong_too(self, tmp_path: Path) -> None:
        (tmp_path / "p").write_text("another one  \n")
        ended = call("list", SMALL, "-p", tmp_path / "p")
        assert ended.status == 3
        assert WHITE_SPACE_SAID not in ended.err

    @pytest.mark.parametrize(
        ("data", "word"),
        [
            (b"", "empty"),
            (b"\n", "empty"),
            (b"\r\n", "empty"),
            (b"\none\n", "first line of the passphrase "),
            (b"\r\none\n", "first line of the passphrase "),
            (b"\xff\xfe", "empty"),
            (b"one\0two", "it has a NUL byte"),
            (b"\xff\xfeo\0n", "it has a NUL byte"),
            (b"x" * 65_537, "64 KiB"),
        ],
    )
    def test_what_can_be_no_passphrase_is_status_2(
        self, data: bytes, word: str, tmp_path: Path
    ) -> None:
        (tmp_path / "p").write_bytes(data)
        for ended in (
            call("list", SMALL, "-p", tmp_path / "p"),
            call("list", SMALL, "-p", "-", stdin=data),
        ):
            assert ended.status == 2
            assert word in ended.err
            assert "one" not in ended.err

    def test_a_file_without_end_is_not_read_to_its_end(self) -> None:
        ended = call("list", SMALL, "-p", "/dev/zero")
        assert ended.status == 2
        assert "64 KiB" in ended.err

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["", "nothing", "."])
    def test_a_file_that_cannot_be_read_is_status_2(self, name: str, tmp_path: Path) -> None:
        file = str(tmp_path / name) if name else ""
        ended = run("list", SMALL, "-p", file)
        assert ended.status == 2
        assert "can't read the passphrase file" in ended.err


class TestLines:
    """Of a file with several lines the first one is the passphrase, as for Qubes' own tools."""

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_the_first_line_counts_and_that_is_said_once(self, end: str, tmp_path: Path) -> None:
        (tmp_path / "p").write_bytes(f"{SMALL_SECRET}{end}another{end}a third{end}".encode())
        ended = call("list", SMALL, "-p", tmp_path / "p")
        assert listed(ended)
        assert ended.err.count(LINES_SAID) == 1
        assert str(tmp_path / "p") in ended.err
        assert "another" not in ended.err

    def test_white_space_at_its_end_is_told_besides(self, tmp_path: Path) -> None:
        (tmp_path / "p").write_text(f"{SMALL_SECRET} \nanother\n")
        ended = call("list", SMALL, "-p", tmp_path / "p")
        assert listed(ended)
        assert ended.err.count(LINES_SAID) == 1
        assert WHITE_SPACE_SAID in ended.err

    @pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", " \n \n", "\r"])
    def test_empty_lines_behind_it_are_not_lines(self, end: str, tmp_path: Path) -> None:
        (tmp_path / "p").write_bytes((SMALL_SECRET + end).encode())
        ended = call("list", SMALL, "-p", tmp_path / "p")
        assert listed(ended)
        assert LINES_SAID not in ended.err

    def test_no_other_line_is_tried(self, tmp_path: Path) -> None:
        (tmp_path / "p").write_text(f"another\n{SMALL_SECRET}\n")
        ended = call("list", SMALL, "-p", tmp_path / "p")
        assert ended.status == 3
        assert ended.err.count(LINES_SAID) == 1

    def test_a_command_that_prints_notes_behind_it(self) -> None:
        line = f"printf '{SMALL_SECRET}\\nlogin: joanna\\n'"
        ended = call("list", SMALL, "--passphrase-command", line)
        assert listed(ended)
        assert f"the passphrase command's output {LINES_SAID}" in ended.err

    def test_from_standard_input_and_with_json(self) -> None:
        data = f"{SMALL_SECRET}\nanother\n".encode()
        ended = call("list", SMALL, "-p", "-", "--json", stdin=data)
        assert ended.document["qubes"]
        assert LINES_SAID in ended.err


UTF8 = "bzip2-utf8-passphrase"
LATIN = "none-latin-passphrase"


class TestReadings:
    """A passphrase that changed on its way into a file costs nobody the backup."""

    @pytest.mark.parametrize(
        ("vector", "encoding", "mark", "said"),
        [
            (UTF8, "utf-8-sig", b"", "the byte order mark of"),
            (UTF8, "utf-16", b"", "was read as UTF-16"),
            (UTF8, "utf-16-be", b"\xfe\xff", "was read as UTF-16"),
            (UTF8, "utf-16-le", b"", "was read as UTF-16"),
            (UTF8, "utf-16-be", b"", "was read as UTF-16"),
            (LATIN, "latin-1", b"", "was read as Latin-1"),
            (LATIN, "cp1252", b"", "was read as Latin-1"),
        ],
    )
    @pytest.mark.parametrize("end", ["", "\r\n", " \r\nanother line\r\n"])
    def test_another_encoding(
        self, vector: str, encoding: str, mark: bytes, said: str, end: str, tmp_path: Path
    ) -> None:
        secret = vectorfiles.load(vector)["passphrase"]
        (tmp_path / "p").write_bytes(mark + (secret + end).encode(encoding))
        ended = call("list", vectorfiles.backup_path(vector), "-p", tmp_path / "p")
        assert ended.status == 0
        assert said in ended.err
        assert (WHITE_SPACE_SAID in ended.err) == end.startswith(" ")
        assert (LINES_SAID in ended.err) == ("another" in end)
        assert secret not in ended.err

    @pytest.mark.slow
    def test_standard_input_is_called_by_its_name(self) -> None:
        secret = vectorfiles.load(UTF8)["passphrase"]
        path = vectorfiles.backup_path(UTF8)
        ended = run("list", path, "-p", "-", stdin=f"{secret}\n2nd\n".encode("utf-8-sig"))
        assert ended.status == 0
        assert b"the passphrase on standard input has several lines" in ended.stderr
        assert b"byte order mark of the passphrase on standard input was" in ended.stderr

    @pytest.mark.slow
    @pytest.mark.parametrize("way", ["file", "command", "environment"])
    @pytest.mark.parametrize("vector", [UTF8, LATIN])
    def test_decomposed_letters(self, vector: str, way: str, tmp_path: Path) -> None:
        secret = unicodedata.normalize("NFD", vectorfiles.load(vector)["passphrase"])
        (tmp_path / "p").write_text(secret, "utf-8")
        arguments: dict[str, tuple[str | Path, ...]] = {
            "file": ("-p", tmp_path / "p"),
            "command": ("--passphrase-command", f"cat {tmp_path / 'p'}"),
        }
        env = {"QBACKUP_PASSPHRASE": secret} if way == "environment" else {}
        path = vectorfiles.backup_path(vector)
        ended = run("list", path, *arguments.get(way, ()), env=env)
        assert ended.status == 0
        assert "were composed (Unicode NFC): with that the passphrase fits" in ended.err
        assert secret not in ended.err

    @pytest.mark.slow
    def test_decomposed_letters_that_were_typed(self) -> None:
        secret = unicodedata.normalize("NFD", vectorfiles.load(UTF8)["passphrase"])
        with Terminal("list", vectorfiles.backup_path(UTF8)) as terminal:
            terminal.type_secret(f"{secret}\n")
            terminal.expect("the passphrase that was typed were composed")
            assert terminal.finish().status == 0

    @pytest.mark.slow
    def test_on_a_pipe(self, tmp_path: Path) -> None:
        path = vectorfiles.backup_path(UTF8)
        secret = vectorfiles.load(UTF8)["passphrase"]
        (tmp_path / "p").write_bytes(unicodedata.normalize("NFD", secret).encode("utf-16"))
        arguments = ("restore", "-", "-o", tmp_path / "out", "-p", tmp_path / "p")
        ended = run(*arguments, stdin=path.read_bytes())
        assert ended.status == 0
        assert "was read as UTF-16; the accented letters of" in ended.err
        (restored,) = vectorfiles.load(UTF8)["files"]
        content = vectorfiles.describe_content(tmp_path / "out/untrusted/private.img")
        assert content == {key: restored[key] for key in ("size", "sha256")}

    def test_a_wrong_one_is_as_wrong_as_ever(self, tmp_path: Path) -> None:
        (tmp_path / "p").write_bytes("\ufeffGrüße \r\n".encode())
        ended = call("restore", SMALL, "-p", tmp_path / "p", "-o", tmp_path / "out")
        assert ended.status == 3
        assert "the passphrase fits" not in ended.err
        assert ended.err.count("does not fit") == 1
        assert not (tmp_path / "out").exists()

    def test_the_library_takes_a_passphrase_as_it_is(self) -> None:
        secret = unicodedata.normalize("NFD", vectorfiles.load(UTF8)["passphrase"])
        with pytest.raises(qbackup.WrongPassphrase):
            qbackup.open(vectorfiles.backup_path(UTF8), passphrase=secret)


class TestCommand:
    def test_what_it_prints(self) -> None:
        assert listed(run("list", SMALL, "--passphrase-command", f"echo '{SMALL_SECRET}'"))

    @pytest.mark.parametrize("end", ["", "\\n", "\\r\\n"])
    def test_one_line_end_is_dropped(self, end: str) -> None:
        assert listed(call("list", SMALL, "--passphrase-command", f"printf '{SMALL_SECRET}{end}'"))

    def test_trailing_white_space_is_tried_without_and_said(self) -> None:
        ended = call("list", SMALL, "--passphrase-command", f"echo '{SMALL_SECRET} '")
        assert listed(ended)
        assert "white space at the end of the passphrase command's output" in ended.err

    @pytest.mark.slow
    def test_there_is_no_shell(self, maker: MakerFactory, tmp_path: Path) -> None:
        literal = "$HOME `id` $(id) * ~ | cat; true && x > y"
        backup = maker(passphrase=literal)
        backup.add_qube("personal", files={"private.img": b"data"})
        path = backup.write(tmp_path / "b")
        assert listed(
            run("list", path, "--passphrase-command", f"printf %s {shlex.quote(literal)}")
        )
        words = "printf '%s %s' $HOME `id`"
        ended = run("list", path, "--passphrase-command", words, cwd=tmp_path)
        assert ended.status == 3  # "$HOME `id`", and nothing that a shell makes of it

    @pytest.mark.slow
    def test_its_standard_input_is_empty(self) -> None:
        code = f"import sys; assert sys.stdin.read() == ''; print({SMALL_SECRET!r})"
        ended = run("list", SMALL, "--passphrase-command", python(code), stdin=b"something")
        assert listed(ended)

    def test_its_standard_input_is_not_the_backup(self) -> None:
        code = f"import sys; sys.stdin.read(); print({SMALL_SECRET!r})"
        ended = run("list", "-", "--passphrase-command", python(code), stdin=SMALL.read_bytes())
        assert listed(ended)

    @pytest.mark.slow
    def test_its_standard_error_is_shown(self) -> None:
        code = f"import sys; sys.stderr.write('touch the key'); print({SMALL_SECRET!r})"
        ended = run("list", SMALL, "--passphrase-command", python(code))
        assert listed(ended)
        assert "touch the key" in ended.err

    @rows(
        ("line", "status", "word"),
        [
            ("false", 3, "status 1"),
            ("sh -c 'echo a; exit 7'", 3, "status 7"),
            ("sh -c 'kill -9 $$'", 3, "status -9"),
            ("/no/such/program", 3, "can't be run"),
            ("/etc/passwd", 3, "can't be run"),
            ("yes", 3, "64 KiB"),
            (python("print('x' * 66_000)"), 3, "64 KiB"),
            ("true", 2, "empty"),
            ("echo", 2, "empty"),
            ("printf 'a\\nb\\n'", 3, "does not fit"),
            ("printf '\\nb\\n'", 2, "first line of the passphrase command's output is empty"),
            ("", 2, "empty"),
            ("  ", 2, "empty"),
            ("echo 'open", 2, "split"),
        ],
    )
    def test_failures(self, line: str, status: int, word: str, tmp_path: Path) -> None:
        ended = run("restore", SMALL, "-o", tmp_path / "out", "--passphrase-command", line)
        assert ended.status == status
        assert word in ended.err
        assert not (tmp_path / "out").exists()

    def test_what_it_prints_at_most_may_be_64_kib(self) -> None:
        ended = call("list", SMALL, "--passphrase-command", python("print('x' * 65_535)"))
        assert ended.status == 3
        assert "does not fit" in ended.err

    @pytest.mark.parametrize(
        "code",
        [
            "import time; time.sleep(1000)",
            "import os, time; print('x'); os.close(1); time.sleep(1000)",
            "import time\nwhile True: print('x', flush=True); time.sleep(0.05)",
        ],
        ids=["silent", "closed its output", "trickling"],
    )
    def test_it_has_only_so_much_time(self, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(passphrase, "_COMMAND_SECONDS", 0.3)
        ended = call("list", SMALL, "--passphrase-command", python(code))
        assert ended.status == 3
        assert "took longer than" in ended.err

    def test_five_minutes(self) -> None:
        assert passphrase._COMMAND_SECONDS == 300

    def test_it_ends_with_the_program(self, tmp_path: Path) -> None:
        code = (
            f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()) + '.')"
        )
        arguments = ("list", SMALL, "--passphrase-command", python(f"{code}; time.sleep(1000)"))
        with Terminal(*arguments) as terminal:
            wait_for(lambda: _ends_with_dot(tmp_path / "pid"))
            pid = int((tmp_path / "pid").read_text().rstrip("."))
            terminal.process.send_signal(signal.SIGTERM)
            assert terminal.finish().status == 143
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def _ends_with_dot(path: Path) -> bool:
    return path.exists() and path.read_text().endswith(".")


class TestEnvironment:
    def test_the_passphrase_itself(self) -> None:
        assert listed(run("list", SMALL, env={"QBACKUP_PASSPHRASE": SMALL_SECRET}))

    @pytest.mark.slow
    def test_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "p").write_text(SMALL_SECRET)
        assert listed(run("list", SMALL, env={"QBACKUP_PASSPHRASE_FILE": str(tmp_path / "p")}))

    def test_standard_input(self) -> None:
        env = {"QBACKUP_PASSPHRASE_FILE": "-"}
        assert listed(run("list", SMALL, env=env, stdin=SMALL_SECRET.encode()))

    def test_a_command(self) -> None:
        assert listed(
            run("list", SMALL, env={"QBACKUP_PASSPHRASE_COMMAND": f"echo {SMALL_SECRET}"})
        )

    @pytest.mark.slow
    def test_a_passphrase_in_bytes_that_are_no_text(
        self, maker: MakerFactory, tmp_path: Path
    ) -> None:
        path = vectorfiles.backup_path("bzip2-utf8-passphrase")
        secret = vectorfiles.load("bzip2-utf8-passphrase")["passphrase"]
        for more in ({}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
            assert run("list", path, env={"QBACKUP_PASSPHRASE": secret, **more}).status == 0

    @pytest.mark.parametrize("value", ["", "one\ntwo", "one\n", "one\r"])
    def test_what_can_be_no_passphrase_is_status_2(self, value: str) -> None:
        ended = call("list", SMALL, env={"QBACKUP_PASSPHRASE": value})
        assert ended.status == 2
        assert "QBACKUP_PASSPHRASE" in ended.err

    @pytest.mark.parametrize("name", ["QBACKUP_PASSPHRASE_FILE", "QBACKUP_PASSPHRASE_COMMAND"])
    def test_an_empty_variable_is_no_choice(self, name: str) -> None:
        assert call("list", SMALL, env={name: ""}).status == 2

    def test_white_space_is_never_dropped(self) -> None:
        assert call("list", SMALL, env={"QBACKUP_PASSPHRASE": f"{SMALL_SECRET} "}).status == 3

    @pytest.mark.parametrize("flag", ["file", "command"])
    def test_a_flag_beats_it(self, flag: str, tmp_path: Path) -> None:
        (tmp_path / "p").write_text(SMALL_SECRET)
        flags: dict[str, tuple[str | Path, ...]] = {
            "file": ("-p", tmp_path / "p"),
            "command": ("--passphrase-command", f"echo {SMALL_SECRET}"),
        }
        env = {
            "QBACKUP_PASSPHRASE": "wrong",
            "QBACKUP_PASSPHRASE_FILE": "/no/such/file",
            "QBACKUP_PASSPHRASE_COMMAND": f"touch {tmp_path}/ran",
        }
        for name, value in env.items():
            assert listed(call("list", SMALL, *flags[flag], env={name: value}))
        assert listed(call("list", SMALL, *flags[flag], env=env))
        assert not (tmp_path / "ran").exists()

    def test_two_flags_are_status_2(self, tmp_path: Path) -> None:
        ended = call(
            "list", SMALL, "-p", SAMPLE_FILE, "--passphrase-command", f"touch {tmp_path}/x"
        )
        assert ended.status == 2
        assert "use only one" in ended.err
        assert not (tmp_path / "x").exists()

    @pytest.mark.parametrize("left_out", range(4))
    def test_two_variables_are_status_2(self, left_out: int) -> None:
        env = {
            "QBACKUP_PASSPHRASE": SMALL_SECRET,
            "QBACKUP_PASSPHRASE_FILE": str(SAMPLE_FILE),
            "QBACKUP_PASSPHRASE_COMMAND": f"echo {SMALL_SECRET}",
        }
        for name in list(env)[left_out : left_out + 1]:
            del env[name]
        ended = call("list", SMALL, env=env)
        assert ended.status == 2
        assert "set only one" in ended.err
        assert all(name in ended.err for name in env)

    def test_children_do_not_get_the_variables(self, tmp_path: Path) -> None:
        code = (
            f"import os; open({str(tmp_path / 'dump')!r}, 'w').write(repr(dict(os.environ)))"
            f"; print({SMALL_SECRET!r})"
        )
        env = {
            "QBACKUP_PASSPHRASE": "the secret",
            "QBACKUP_PASSPHRASE_FILE": "secret file",
            "QBACKUP_PASSPHRASE_COMMAND": "secret command",
            "KEPT": "yes",
        }
        ended = run("list", SMALL, "--passphrase-command", python(code), env=env)
        assert listed(ended)
        dump = (tmp_path / "dump").read_text()
        assert "'KEPT': 'yes'" in dump
        assert "QBACKUP" not in dump
        assert "secret" not in dump

    def test_it_is_never_an_argument_of_a_process(self, tmp_path: Path) -> None:
        """The command line of the program, and of what it starts, as every process can read it."""
        code = (
            "import os, glob\n"
            "lines = [open(p, 'rb').read() for p in (f'/proc/{os.getpid()}/cmdline',"
            " f'/proc/{os.getppid()}/cmdline')]\n"
            f"open({str(tmp_path / 'lines')!r}, 'wb').write(b'|'.join(lines))\n"
            "print(open('secret').read())"
        )
        (tmp_path / "secret").write_text(SMALL_SECRET)
        (tmp_path / "code.py").write_text(code)
        line = shlex.join([sys.executable, str(tmp_path / "code.py")])
        assert listed(run("list", SMALL, "--passphrase-command", line, cwd=tmp_path))
        lines = (tmp_path / "lines").read_bytes()
        assert b"qbackup" in lines
        assert SMALL_SECRET.encode() not in lines


class TestTerminal:
    def test_it_asks_and_shows_nothing_of_the_answer(self) -> None:
        with Terminal("list", SMALL) as terminal:
            terminal.type_secret(f"{SMALL_SECRET}\n")
            terminal.expect("personal")
            assert terminal.finish().status == 0
            assert terminal.echoes

    def test_three_tries_and_the_second_fits(self) -> None:
        with Terminal("list", SMALL) as terminal:
            terminal.type_secret("wrong\n")
            terminal.expect("does not fit; try again")
            terminal.type_secret(f"{SMALL_SECRET}\n")
            terminal.expect("personal")
            assert terminal.finish().status == 0

    @pytest.mark.slow
    def test_three_tries_and_no_more(self) -> None:
        with Terminal("list", SMALL) as terminal:
            for _ in range(3):
                terminal.type_secret("wrong\n")
            assert terminal.finish().status == 3
        assert terminal.seen.count("Passphrase of the backup: ") == 3
        assert terminal.seen.count("try again") == 2
        assert "qbackup: the passphrase does not fit this backup" in terminal.seen

    def test_an_empty_answer_is_a_try_and_costs_no_derivation(self) -> None:
        with Terminal("list", SMALL) as terminal:
            terminal.type_secret("\n")
            terminal.type_secret(f"{SMALL_SECRET}\n")
            assert terminal.finish().status == 0

    @pytest.mark.parametrize("answers", [["\n", "\n", "\n"], ["\x04"]], ids=["enter", "ctrl-d"])
    def test_no_answer_is_status_2_and_the_other_ways_are_named(self, answers: list[str]) -> None:
        with Terminal("list", SMALL) as terminal:
            for answer in answers:
                terminal.type_secret(answer)
            assert terminal.finish().status == 2
        assert all(way in terminal.seen for way in OTHER_WAYS)

    def test_the_end_of_input_after_a_wrong_one_is_status_3(self) -> None:
        with Terminal("list", SMALL) as terminal:
            terminal.type_secret("wrong\n")
            terminal.type_secret("\x04")
            assert terminal.finish().status == 3

    @pytest.mark.slow
    def test_ctrl_c_is_status_130(self) -> None:
        with Terminal("list", SMALL) as terminal:
            terminal.type_secret("begun\x03")
            assert terminal.finish().status == 130
            assert terminal.echoes
        assert "begun" not in terminal.seen
        assert "Passphrase of the backup: \r\nqbackup: interrupted" in terminal.seen

    def test_sigterm_gives_the_terminal_its_echo_back(self) -> None:
        with Terminal("list", SMALL) as terminal:
            terminal.type_secret("")
            terminal.process.terminate()
            assert terminal.finish().status == 143
            assert terminal.echoes

    def test_utf_8(self) -> None:
        secret = vectorfiles.load("bzip2-utf8-passphrase")["passphrase"]
        with Terminal("list", vectorfiles.backup_path("bzip2-utf8-passphrase")) as terminal:
            terminal.type_secret(f"{secret}\n")
            assert terminal.finish().status == 0
            assert secret not in terminal.seen

    @pytest.mark.parametrize("more", [{}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"}], ids=str)
    def test_bytes_that_are_no_text_are_a_try(self, more: dict[str, str]) -> None:
        with Terminal("list", SMALL, env=more) as terminal:
            terminal.type_secret(b"\xff\xfe\n")
            terminal.type_secret(f"{SMALL_SECRET}\n")
            assert terminal.finish().status == 0

    def test_white_space_is_never_dropped(self) -> None:
        with Terminal("list", SMALL) as terminal:
            for _ in range(3):
                terminal.type_secret(f"{SMALL_SECRET} \n")
            assert terminal.finish().status == 3

    @rows("name", ["list", "verify", "restore", "cat"])
    def test_it_asks_while_standard_input_is_the_backup(self, name: str, tmp_path: Path) -> None:
        more = {"restore": ["-o", str(tmp_path / "out")], "cat": ["personal/private.img"]}
        with (
            subprocess.Popen(["cat", str(SMALL)], stdout=subprocess.PIPE) as backup,
            Terminal(
                *(name, "-", *more.get(name, [])), stdin=backup.stdout, stdout=subprocess.PIPE
            ) as terminal,
        ):
            terminal.type_secret("wrong\n")
            terminal.type_secret(f"{SMALL_SECRET}\n")
            ended = terminal.finish()
        assert ended.status == 0
        assert b"Passphrase" not in ended.stdout

    def test_the_prompt_is_on_the_terminal_also_when_standard_error_is_not(self) -> None:
        with Terminal("list", SMALL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as terminal:
            terminal.type_secret("wrong\n")
            terminal.type_secret(f"{SMALL_SECRET}\n")
            ended = terminal.finish()
        assert listed(ended)
        assert ended.err == "that passphrase does not fit; try again (Ctrl-C to stop)\n"

    def test_it_says_that_checking_takes_its_time(self) -> None:
        with Terminal("list", SMALL) as terminal:
            terminal.type_secret(f"{SMALL_SECRET}\n")
            assert terminal.finish().status == 0
        assert "\r\x1b[Kchecking the passphrase\r\x1b[K" in terminal.seen
        assert "\r\x1b[Kreading the list of qubes\r\x1b[KQUBE " in terminal.seen

    def test_quiet_does_not(self) -> None:
        with Terminal("list", SMALL, "-q") as terminal:
            terminal.type_secret(f"{SMALL_SECRET}\n")
            assert terminal.finish().status == 0
        assert terminal.seen.startswith("Passphrase of the backup: \r\nQUBE ")

    def test_info_does_not_ask(self) -> None:
        with Terminal("info", SMALL) as terminal:
            assert terminal.finish().status == 0
        assert "Passphrase" not in terminal.seen
        assert "NOT authenticated" in terminal.seen

    @rows("name", ["list", "verify", "restore", "cat"])
    def test_without_a_terminal_the_other_ways_are_named(self, name: str, tmp_path: Path) -> None:
        more = {"restore": ["-o", str(tmp_path / "out")], "cat": ["personal/private.img"]}
        ended = run(name, SMALL, *more.get(name, []), stdin=SMALL_SECRET.encode())
        assert (ended.status, ended.stdout) == (2, b"")
        assert "there is no terminal" in ended.err
        assert all(way in ended.err for way in OTHER_WAYS)
        assert not (tmp_path / "out").exists()


class TestSecrecy:
    """`run`, `call` and `Terminal` look for the passphrase in every output, also these."""

    @rows("name", ["info", "list", "verify"])
    @rows("json", [[], ["--json"]])
    def test_verbose_runs(self, name: str, json: list[str]) -> None:
        env = {"QBACKUP_PASSPHRASE": SAMPLE_SECRET}
        assert call(name, SAMPLE, "-v", *json, env=env).status == 0

    def test_wrong_ones(self) -> None:
        for secret in (SAMPLE_SECRET, f"{SAMPLE_SECRET}\nmore", SAMPLE_SECRET * 5000):
            ended = call("list", SMALL, "-v", "--json", env={"QBACKUP_PASSPHRASE": secret})
            assert ended.status in (2, 3)

    def test_a_request_does_not_show_it(self) -> None:
        request = passphrase.Request(
            file=None,
            command=f"echo {SMALL_SECRET}",
            environment={"QBACKUP_PASSPHRASE": SMALL_SECRET},
            stdin_is_backup=False,
        )
        assert SMALL_SECRET not in repr(request)

    def test_the_variables_are_gone_from_the_programs_own_environment(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for arguments in (["list", str(SMALL)], ["completion", "bash"], ["--version"]):
            monkeypatch.setenv("QBACKUP_PASSPHRASE", SMALL_SECRET)
            assert main(arguments) == 0
            assert "QBACKUP_PASSPHRASE" not in os.environ
