"""Every error says what happened, to what, and what to do next, to somebody who is frightened."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import qbackup
from qbackup.base import errors
from qbackup.base.errors import QBackupError
from qbackup.storage.signatures import looks_like
from tests.docs.console import flipped
from tests.support import vectorfiles
from tests.support.commandline import SAMPLE, SAMPLE_FILE, call, run
from tests.support.speed import rows

KEY = ["-p", str(SAMPLE_FILE)]
PACKAGE = Path(qbackup.__file__).parent
KINDS = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, QBackupError)
}
#: Here each message says by itself what to do, as it is never the same.
_IN_THE_REASON = {
    "QBackupError", "UsageError", "Unlockable", "Unreadable", "NotABackup",
    "UnsupportedFormat", "Incomplete", "MachineError", "Interrupted",
}  # fmt: skip


def raised() -> Iterator[tuple[str, str, str]]:
    """(where, kind, text) of each error that is raised; what is put into the text is left out."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                text = _text(node.args[0]) if node.args else None
                if node.func.id in KINDS and text is not None:
                    place = f"{path.relative_to(PACKAGE)}:{node.lineno}"
                    yield place, node.func.id, text


def _text(node: ast.expr) -> str | None:
    """A literal, with ``…`` for what is put in; None if it is something else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or "…" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return (_text(node.left) or "…") + (_text(node.right) or "…")
    return None


class TestAll:
    @pytest.mark.slow
    def test_they_are_sentences(self) -> None:
        """As they stand behind a name and a colon."""
        found = list(raised())
        assert len(found) > 150
        for place, kind, text in found:
            assert text == text.strip(), place
            assert not text.endswith("."), f"{place}: {text}"
            assert text.isprintable(), place
            assert len(text.split()) > 1 or "…" in text, f"{place}: {kind}: {text}"
            assert not re.search(r"\b(invalid|illegal|failure|unexpected|fatal)\b", text, re.I), (
                f"{place}: says that something is wrong, not what: {text}"
            )

    @pytest.mark.parametrize("name", sorted(set(KINDS) - _IN_THE_REASON))
    def test_they_say_what_to_do(self, name: str) -> None:
        advice = KINDS[name].advice
        assert len(advice.split()) > 5
        assert not advice.endswith(".")

    @pytest.mark.slow
    def test_options_that_are_named_exist(self) -> None:
        texts = [text for _, _, text in raised()] + [kind.advice for kind in KINDS.values()]
        named = {word for text in texts for word in re.findall(r"--[a-z-]+", text)}
        assert {"--salvage", "--keep-damaged", "--passphrase-file", "--jobs"} <= named
        known = "".join(
            run(name, "--help").out for name in ("restore", "kit", "protect", "info", "cp")
        )
        assert not {option for option in named if option not in known}


class TestFirstWords:
    """What people meet first, as they meet it."""

    @pytest.mark.slow
    def test_a_wrong_passphrase(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text("wrong")
        ended = run("list", SAMPLE, "-p", tmp_path / "key")
        assert ended.status == 3
        for word in (
            "keyboard layout",
            "Caps Lock",
            "when the backup was made",
            "not that of the disk",
        ):
            assert word in ended.err

    @rows(
        ("vector", "options", "advice"),
        [
            ("v2-beta3-raw", [], "--salvage, which can tell"),
            ("v2-beta3-raw", ["--salvage"], "most likely wrong"),
            ("v3-home", [], "--salvage, which can tell"),
            ("v3-home", ["--salvage"], "most likely wrong"),
            ("gzip-published-header", [], "--salvage, which can tell"),
            ("gzip-published-header", ["--salvage"], "most likely wrong"),
        ],
    )
    def test_a_wrong_passphrase_and_salvage(
        self, vector: str, options: list[str], advice: str
    ) -> None:
        path = vectorfiles.backup_path(vector)
        ended = run("list", path, *options, env={"QBACKUP_PASSPHRASE": "wrong"})
        assert ended.status == 3
        assert advice in ended.err.splitlines()[-1]

    def test_an_altered_header(self, tmp_path: Path) -> None:
        path = tmp_path / "altered"
        path.write_bytes(SAMPLE.read_bytes().replace(b"=gzip\n", b"=lzma\n", 1))
        ended = run("list", path, *KEY, "--json")
        assert ended.status == 3
        assert "another copy of the backup; --salvage" in ended.err
        assert ended.document["advice"] in ended.err

    @rows(
        ("arguments", "says"),
        [
            (["restore", "nothing", "-o", "DIR"], "qbackup list BACKUP"),
            (["cat", "personal/nothing"], "qbackup list BACKUP"),
            (["cat", "dom0/user"], "qbackup restore BACKUP QUBE/FOLDER -o DIR"),
        ],
    )
    def test_what_is_not_there(self, tmp_path: Path, arguments: list[str], says: str) -> None:
        command, *rest = arguments
        ended = run(command, SAMPLE, *rest, *KEY, cwd=tmp_path)
        assert ended.status == 2
        assert says in ended.err.splitlines()[1]
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["ls", "vault:/"], "the file 'vault/private.img' is missing from this backup: "),
            (["cat", "vault/private.img"], "the file 'vault/private.img' is missing from this"),
            (["cat", "vault/x"], "no file 'vault/x' in the part of this backup that can be read: "),
            (["ls", "dom0"], "nothing called dom0 in the part of this backup that can be read; "),
            (["ls", "nobody:/"], "there is no qube 'nobody' in this backup"),
        ],
    )
    def test_a_file_behind_a_cut_is_no_name_that_the_backup_never_had(
        self, tmp_path: Path, arguments: list[str], says: str
    ) -> None:
        data = SAMPLE.read_bytes()
        (tmp_path / "cut").write_bytes(data[: len(data) // 2])
        command, *rest = arguments
        ended = call(command, tmp_path / "cut", *rest, *KEY, "-q")
        assert ended.status == 2
        assert says in ended.err
        is_fault_of_the_cut = "there is no qube" not in says
        assert ("the archive is cut off at byte" in ended.err) == is_fault_of_the_cut

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "arguments",
        [["list"], ["cat", "personal/firewall.xml"], ["verify", "personal"], ["ls", "vault:/"]],
    )
    def test_what_is_not_there_as_the_list_is_damaged(
        self, tmp_path: Path, arguments: list[str]
    ) -> None:
        backup = flipped(SAMPLE.read_bytes(), "qubes.xml.000.enc", 150)
        (tmp_path / "backup").write_bytes(backup)
        command, *rest = arguments
        ended = run(command, tmp_path / "backup", *rest, *KEY)
        assert ended.status in (1, 2)
        assert "qbackup list BACKUP --salvage" in ended.err.splitlines()[1]
        ended = run("list", tmp_path / "backup", "--salvage", *KEY)
        assert "vm1 " in ended.out

    def test_the_report_of_a_cut_backup(self, tmp_path: Path) -> None:
        data = SAMPLE.read_bytes()
        (tmp_path / "cut").write_bytes(data[: len(data) // 2])
        ended = run("verify", tmp_path / "cut", *KEY)
        assert ended.status == 1
        assert "what to do: was the backup copied completely?" in ended.out
        assert ended.out.splitlines()[-1].startswith("NOT EVERYTHING IS THERE")

    @pytest.mark.slow
    def test_the_report_of_what_is_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "personal").mkdir()
        (tmp_path / "personal" / "private.img").write_text("mine")
        ended = run("restore", SAMPLE, "-o", tmp_path, *KEY, "--json")
        assert ended.status == 1
        (advice,) = ended.document["advice"]
        assert "--overwrite" in advice

    def test_a_good_report_has_no_advice(self) -> None:
        ended = run("verify", SAMPLE, *KEY, "--json")
        assert ended.status == 0
        assert "advice" not in ended.document


class TestLookalikes:
    """By the real programs where there are any."""

    @rows("program", ["gzip", "bzip2", "xz", "zstd"])
    def test_what_was_compressed(self, tools: None, tmp_path: Path, program: str) -> None:
        path = tmp_path / "file"
        path.write_bytes(
            subprocess.run(
                [program, "-c"], input=SAMPLE.read_bytes(), capture_output=True, check=True
            ).stdout
        )
        ended = run("info", path)
        assert ended.status == 4
        assert f"compressed with {program}\n  unpack it first: {program} -dc" in ended.err

    def test_what_was_encrypted(self, tools: None, tmp_path: Path) -> None:
        (tmp_path / "plain").write_text("words")
        for program, command in (
            ("openssl", ["openssl", "enc", "-aes-256-cbc", "-pbkdf2", "-pass", "pass:x"]),
            ("scrypt", ["scrypt", "enc", "--logN", "10", "-r", "8", "-p", "1", "-P"]),
        ):
            where = ["-in", "plain", "-out", "out"] if program == "openssl" else ["plain", "out"]
            subprocess.run(
                [*command, *where], cwd=tmp_path, input=b"x\n", check=True, capture_output=True
            )
            ended = run("info", tmp_path / "out")
            assert ended.status == 4
            assert f"encrypted with {program}" in ended.err

    def test_a_disk(self) -> None:
        assert looks_like(bytes(400) + b"x" * 110 + b"\x55\xaa") is not None

    def test_a_header_alone(self, tmp_path: Path) -> None:
        subprocess.run(["tar", "-xf", SAMPLE, "backup-header"], cwd=tmp_path, check=True)
        assert "the header of a backup" in run("info", tmp_path / "backup-header").err

    @pytest.mark.parametrize("data", [b"", b"Dear diary", b"\x8b\x08gz"])
    def test_what_nobody_knows(self, data: bytes) -> None:
        assert looks_like(data) is None

    def test_a_backup_is_none_of_them(self) -> None:
        with SAMPLE.open("rb") as file:
            assert looks_like(file.read(512)) is None
