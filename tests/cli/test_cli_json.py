"""`--json`: one document on standard output whatever happens, with the keys that programs rely on.

That there is exactly one, pure ASCII, with its schema's number, `run` and `call` check every time.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from qbackup.base.errors import MachineError
from qbackup.base.report import FileResult, Report
from qbackup.cli import documents
from tests.conftest import MakerFactory
from tests.maker import assemble, forged_archive
from tests.support import alter, vectorfiles
from tests.support.commandline import (
    SAMPLE,
    SAMPLE_FILE,
    SMALL,
    SMALL_SECRET,
    backup_command,
    call,
    run,
)
from tests.support.speed import rows
from tests.support.tarbytes import archive, header

KEY = ("-p", SAMPLE_FILE)
SMALL_KEY = {"QBACKUP_PASSPHRASE": SMALL_SECRET}
COMMANDS = ("info", "list", "verify", "restore")
IMAGE = "vm1/private.img.000.enc"
HEADER = {
    "version": 4,
    "encrypted": True,
    "compressed": True,
    "compression_filter": "gzip",
    "hmac_algorithm": "scrypt",
    "crypto_algorithm": None,
    "backup_id": "20240917T101112-1234",
}
FILE_KEYS = {"qube", "name", "status", "error", "chunks", "size"}


def arguments_for(name: str, backup: str | Path, tmp_path: Path) -> list[str | Path]:
    """A command with what it cannot do without."""
    return backup_command(name, backup, tmp_path, "--json")


def statuses(document: dict[str, Any]) -> dict[str, str]:
    """QUBE/FILE → status of a report."""
    return {f"{file['qube']}/{file['name']}": file["status"] for file in document["files"]}


class TestInfo:
    def test_keys(self) -> None:
        ended = call("info", SAMPLE, "--json")
        assert (ended.status, ended.err) == (0, "")
        document = ended.document
        estimate = document.pop("estimate")
        assert document == {
            "schema": 1,
            "authenticated": False,
            "header": HEADER,
            "members": 7,
            "chunks": 5,
            "stored_size": 4797,
            "unreadable_chunks": 0,
            "scrypt": [{"log2_n": 14, "n": 16384, "r": 8, "p": 1, "chunks": 5}],
            "warnings": [],
        }
        assert set(estimate) == {"seconds", "memory", "disk"}
        assert estimate["disk"] >= document["stored_size"]
        assert estimate["memory"] > 1 << 24

    def test_with_a_passphrase_it_is_authenticated(self) -> None:
        document = call("info", SAMPLE, "--json", *KEY).document
        assert document["authenticated"] is True
        assert document["header"] == HEADER

    def test_parameters_differ_from_chunk_to_chunk(self, tmp_path: Path) -> None:
        path = alter.with_parameters(SAMPLE, tmp_path / "b", IMAGE, 15, 8, 2)
        document = call("info", path, "--json").document
        assert sorted(
            (each["log2_n"], each["p"], each["chunks"]) for each in document["scrypt"]
        ) == [
            (14, 1, 4),
            (15, 2, 1),
        ]

    def test_what_is_cut_off_is_an_error(self, tmp_path: Path) -> None:
        ended = call("info", alter.cut(SAMPLE, tmp_path / "b", IMAGE, 9), "--json")
        assert ended.status == 1
        assert ended.document["error"]
        assert f"qbackup: {ended.document['error']}\n" in ended.err


class TestList:
    def test_keys(self) -> None:
        ended = call("list", SAMPLE, "--json", *KEY)
        assert (ended.status, ended.err) == (0, "")
        document = ended.document
        assert set(document) == {"schema", "header", "qubes", "warnings"}
        assert document["header"] == HEADER
        assert [qube["name"] for qube in document["qubes"]] == ["personal", "vault", "dom0"]
        personal, vault, dom0 = document["qubes"]
        assert personal["size"] > 0
        assert {**personal, "size": 0} == {
            "name": "personal",
            "class": "AppVM",
            "label": "yellow",
            "template": "fedora-40",
            "netvm": None,
            "size": 0,
            "files": [
                {
                    "name": "private.img",
                    "chunks": 1,
                    "stored_size": 1565,
                    "in_qubes_xml": True,
                },
                {
                    "name": "firewall.xml",
                    "chunks": 1,
                    "stored_size": 337,
                    "in_qubes_xml": False,
                },
            ],
            "missing": [],
            "in_backup": True,
            "properties": {
                "label": "yellow",
                "name": "personal",
                "qid": "1",
                "uuid": "220a4140-80a1-5fe0-8ab8-321b1455a833",
                "template": "fedora-40",
            },
            "features": {},
            "tags": ["created-by-dom0"],
            "services": {},
            "devices": [],
            "firewall": [{"action": "accept"}],
        }
        assert (vault["firewall"], vault["properties"]["netvm"]) == (None, "")
        assert (vault["netvm"], vault["label"]) == ("", "black")
        assert (dom0["class"], dom0["template"]) == ("AdminVM", None)
        assert [file["name"] for file in dom0["files"]] == ["user"]

    def test_chunks_are_counted(self) -> None:
        path = vectorfiles.backup_path("xz-many-chunks")
        document = call("list", path, "--json", env=SMALL_KEY).document
        (file,) = document["qubes"][0]["files"]
        assert file["chunks"] == vectorfiles.load("xz-many-chunks")["files"][0]["chunks"] > 10

    @pytest.mark.slow
    def test_a_pipe_gives_the_same(self) -> None:
        piped = run("list", "-", "--json", *KEY, stdin=SAMPLE.read_bytes())
        assert piped.document == call("list", SAMPLE, "--json", *KEY).document

    def test_missing_files(self, tmp_path: Path) -> None:
        ended = call("list", alter.without(SAMPLE, tmp_path / "b", IMAGE), "--json", *KEY)
        assert ended.status == 1
        assert ended.document["qubes"][0]["missing"] == ["private.img"]
        assert ended.document["error"] == "files are missing from this backup"

    def test_a_qube_without_any_file(self, maker: MakerFactory, tmp_path: Path) -> None:
        backup = maker()
        backup.add_qube("disp1", klass="DispVM", volumes={}, files={"empty": b""})
        path = alter.without(backup.write(tmp_path / "a"), tmp_path / "b", "vm1/empty.000.enc")
        ended = call("list", path, "--json", env=SMALL_KEY)
        assert ended.status == 1
        assert ended.document["qubes"][0]["missing"] == ["*"]

    def test_a_cut_archive(self, tmp_path: Path) -> None:
        path = alter.cut(SAMPLE, tmp_path / "b", "dom0-home/user.000.enc", 9)
        ended = call("list", path, "--json", *KEY)
        assert ended.status == 1
        assert len(ended.document["qubes"]) == 3
        assert ended.document["error"]

    def test_warnings_are_in_it_and_on_standard_error(self, tmp_path: Path) -> None:
        path = alter.extended(SAMPLE, tmp_path / "b", forged_archive("README", b"x"))
        ended = call("list", path, "--json", *KEY)
        (warning,) = ended.document["warnings"]
        assert ended.err == f"warning: {warning}\n"


class TestVerifyAndRestore:
    @pytest.mark.parametrize("name", ["verify", "restore"])
    def test_keys(self, name: str, tmp_path: Path) -> None:
        ended = call(*arguments_for(name, SAMPLE, tmp_path), *KEY)
        assert (ended.status, ended.err) == (0, "")
        document = ended.document
        assert set(document) == {"schema", "ok", "files", "warnings"}
        assert document["ok"] is True
        assert all(set(file) == FILE_KEYS for file in document["files"])
        assert statuses(document) == {
            "/qubes.xml": "ok",
            "personal/private.img": "ok",
            "personal/firewall.xml": "ok",
            "vault/private.img": "ok",
            "dom0/user": "ok",
        }
        image = document["files"][1]
        assert (image["error"], image["chunks"], image["size"]) == (None, 1, 8 << 20)

    @pytest.mark.parametrize("name", ["verify", "restore"])
    def test_damaged_and_missing(self, name: str, tmp_path: Path) -> None:
        path = alter.flipped(SAMPLE, tmp_path / "a", IMAGE)
        path = alter.without(path, tmp_path / "b", "vm2/private.img.000.enc")
        ended = call(*arguments_for(name, path, tmp_path), *KEY)
        assert ended.status == 1
        document = ended.document
        assert document["ok"] is False
        assert statuses(document)["personal/private.img"] == "damaged"
        assert statuses(document)["vault/private.img"] == "missing"
        assert statuses(document)["personal/firewall.xml"] == "ok"
        assert "vm1/private.img.000" in document["files"][1]["error"]

    def test_kept_and_exists(self, tmp_path: Path) -> None:
        (tmp_path / "out/vault").mkdir(parents=True)
        (tmp_path / "out/vault/private.img").write_text("mine")
        first = call(*arguments_for("restore", SAMPLE, tmp_path), "vault", *KEY)
        assert first.status == 1
        assert statuses(first.document) == {"/qubes.xml": "ok", "vault/private.img": "exists"}
        second = call(*arguments_for("restore", SAMPLE, tmp_path), "personal", *KEY)
        assert second.status == 0
        assert statuses(second.document)["/qubes.xml"] == "kept"

    def test_notes(self, tmp_path: Path) -> None:
        path = vectorfiles.backup_path("pigz-home")
        document = call(*arguments_for("restore", path, tmp_path), env=SMALL_KEY).document
        (home,) = (file for file in document["files"] if file["qube"] == "dom0")
        assert "setuid: setuid or setgid dropped" in home["notes"]

    def test_a_cut_archive_is_an_error_of_the_whole(self, tmp_path: Path) -> None:
        path = alter.cut(SAMPLE, tmp_path / "b", "dom0-home/user.000.enc", 9)
        ended = call(*arguments_for("verify", path, tmp_path), *KEY)
        assert ended.status == 1
        assert ended.document["ok"] is False
        assert ended.document["error"]
        assert statuses(ended.document)["vault/private.img"] == "ok"

    def test_the_machine_fails_midway(self) -> None:
        """A full disk gives this; test_cli_signals.py fills one where that is allowed."""
        error = MachineError("can't write private.img: No space left on device")
        done = FileResult(qube="vault", name="private.img", status="ok", chunks=1, size=3)
        error.report = Report(files=(done,))
        assert documents.error_document(error, "files") == {
            "ok": False,
            "error": "can't write private.img: No space left on device",
            "kind": "MachineError",
            "files": [
                {
                    "qube": "vault",
                    "name": "private.img",
                    "status": "ok",
                    "error": None,
                    "chunks": 1,
                    "size": 3,
                }
            ],
            "warnings": [],
        }


class TestErrors:
    """Every failure has `ok`, `error` as on standard error, and `kind`."""

    def check(self, document: dict[str, Any], name: str, kind: str, err: str) -> None:
        assert document["ok"] is False
        assert document["kind"] == kind
        assert f"qbackup: {document['error']}\n" in err
        assert document.get("files") == ([] if name in ("verify", "restore") else None)

    @pytest.mark.parametrize("name", COMMANDS)
    def test_usage(self, name: str) -> None:
        ended = call(name, "--json")
        assert ended.status == 2
        self.check(ended.document, name, "UsageError", ended.err)

    @pytest.mark.parametrize("arguments", [["--json"], ["nonsense", "--json"], ["cat", "--json"]])
    def test_usage_without_a_command(self, arguments: list[str]) -> None:
        ended = call(*arguments)
        assert ended.status == 2
        self.check(ended.document, "", "UsageError", ended.err)

    def test_only_as_an_option(self) -> None:
        ended = call("verify", SMALL, "-p", SAMPLE_FILE, "--", "--json")
        assert (ended.status, ended.stdout) == (3, b"")

    @pytest.mark.parametrize("name", COMMANDS)
    def test_no_such_file(self, name: str, tmp_path: Path) -> None:
        ended = call(*arguments_for(name, tmp_path / "nothing", tmp_path), *KEY)
        assert ended.status == 2
        self.check(ended.document, name, "UsageError", ended.err)

    @rows("name", ["list", "verify", "restore"])
    def test_no_passphrase(self, name: str, tmp_path: Path) -> None:
        ended = run(*arguments_for(name, SAMPLE, tmp_path))
        assert ended.status == 2
        self.check(ended.document, name, "UsageError", ended.err)

    @pytest.mark.parametrize("name", ["verify", "restore"])
    def test_no_such_qube(self, name: str, tmp_path: Path) -> None:
        ended = call(*arguments_for(name, SAMPLE, tmp_path), "nobody", *KEY)
        assert ended.status == 2
        self.check(ended.document, name, "NotInBackup", ended.err)

    @pytest.mark.parametrize("name", COMMANDS)
    def test_wrong_passphrase(self, name: str, tmp_path: Path) -> None:
        ended = call(*arguments_for(name, SAMPLE, tmp_path), env=SMALL_KEY)
        assert ended.status == 3
        self.check(ended.document, name, "WrongPassphrase", ended.err)

    @pytest.mark.parametrize("name", COMMANDS)
    def test_altered_header(self, name: str, tmp_path: Path) -> None:
        path = alter.substituted(SAMPLE, tmp_path / "b", alter.HEADER, b"gzip", b"lzma")
        ended = call(*arguments_for(name, path, tmp_path), *KEY)
        assert ended.status == 3
        self.check(ended.document, name, "HeaderAltered", ended.err)

    @pytest.mark.parametrize("name", COMMANDS)
    def test_not_a_backup(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "text").write_text("This is no backup.\n" * 100)
        ended = call(*arguments_for(name, tmp_path / "text", tmp_path), *KEY)
        assert ended.status == 4
        self.check(ended.document, name, "NotABackup", ended.err)

    @pytest.mark.parametrize("name", ["list", "verify", "restore"])
    def test_parameters_over_the_limits(self, name: str, tmp_path: Path) -> None:
        path = alter.with_parameters(SAMPLE, tmp_path / "b", alter.HEADER_COPY, 40, 8, 1)
        ended = call(*arguments_for(name, path, tmp_path), *KEY)
        assert ended.status == 4
        self.check(ended.document, name, "LimitExceeded", ended.err)

    def test_damaged_qubes_xml(self, tmp_path: Path) -> None:
        path = alter.flipped(SAMPLE, tmp_path / "b", "qubes.xml.000.enc")
        ended = call("list", path, "--json", *KEY)
        assert ended.status == 1
        self.check(ended.document, "list", "ChunkDamaged", ended.err)

    def test_the_machine_fails(self) -> None:
        ended = call("restore", SAMPLE, "--json", "-o", SAMPLE_FILE, *KEY)
        assert ended.status == 5
        self.check(ended.document, "restore", "MachineError", ended.err)

    def test_a_name_of_the_command_line_that_is_no_text(self, tmp_path: Path) -> None:
        name = os.fsdecode(os.fsencode(tmp_path) + b"/no\xff\x1b[31m")
        ended = call("list", name, "--json", *KEY)
        assert ended.status == 2
        assert "no" in ended.document["error"]


class TestNames:
    """Names that are not UTF-8: `name` escaped, and `name_bytes` in base64."""

    ODD = b"caf\xe9\x1b[31m"
    SHOWN = r"caf\xe9\x1b[31m"

    def check(self, entry: dict[str, Any], name: bytes) -> None:
        assert base64.b64decode(entry["name_bytes"]) == name

    @pytest.fixture
    def odd_member(self, tmp_path: Path) -> Path:
        name = "vm1/" + self.ODD.decode("utf-8", "surrogateescape") + ".000.enc"
        return alter.extended(SAMPLE, tmp_path / "odd", forged_archive(name, b"x" * 200))

    def test_files_of_a_qube(self, tmp_path: Path) -> None:
        # no control characters: a member with those is nobody's
        name = b"caf\xe9"
        member = "vm1/" + name.decode("utf-8", "surrogateescape") + ".000.enc"
        path = alter.extended(SAMPLE, tmp_path / "odd", forged_archive(member, b"x" * 200))
        listed = call("list", path, "--json", *KEY).document["qubes"][0]["files"][2]
        assert listed["name"] == r"caf\xe9"
        self.check(listed, name)
        ended = call("verify", path, "--json", *KEY)
        (file,) = (file for file in ended.document["files"] if "name_bytes" in file)
        assert ended.status == 1
        assert (file["qube"], file["name"], file["status"]) == ("personal", r"caf\xe9", "damaged")
        self.check(file, name)

    def test_what_a_warning_says(self, odd_member: Path) -> None:
        (warning,) = call("list", odd_member, "--json", *KEY).document["warnings"]
        assert f"vm1/{self.SHOWN}.000.enc" in warning

    def test_refused_entries_of_a_home(self, maker: MakerFactory, tmp_path: Path) -> None:
        (tmp_path / "user").mkdir()
        backup = maker(compression_filter=None)
        backup.add_home("user", tmp_path / "user")
        members = backup.members()
        entry = header(b"dom0-home/user/" + self.ODD, kind=b"Z")
        inner = archive(header(b"dom0-home/user/", kind=b"5", mode=0o700), entry)
        backup.encrypt("dom0-home/user.000", inner)  # in the place of what was there
        path = assemble(members, tmp_path / "b")
        ended = call("restore", path, "--json", "-o", tmp_path / "out", env=SMALL_KEY)
        (file,) = (file for file in ended.document["files"] if "name_bytes" in file)
        assert ended.status == 1
        assert (file["name"], file["status"]) == (f"user/{self.SHOWN}", "missing")
        self.check(file, b"user/" + self.ODD)

    def test_what_a_note_on_a_home_says(self, maker: MakerFactory, tmp_path: Path) -> None:
        home = tmp_path / "user"
        home.mkdir()
        os.mkfifo(os.path.join(os.fsencode(home), self.ODD))
        backup = maker()
        backup.add_home("user", home)
        path = backup.write(tmp_path / "b")
        for command in (("restore", "-o", tmp_path / "out"), ("verify",)):
            ended = call(command[0], path, "--json", *command[1:], env=SMALL_KEY)
            assert ended.status == 0
            (file,) = (file for file in ended.document["files"] if file["qube"] == "dom0")
            assert file["notes"] == [f"{self.SHOWN}: a pipe, which is never made; left out"]

    def test_names_that_are_utf_8_have_no_bytes(self, maker: MakerFactory, tmp_path: Path) -> None:
        backup = maker()
        backup.add_qube("żółw", files={"private.img": b"x"})
        ended = call("list", backup.write(tmp_path / "b"), "--json", env=SMALL_KEY)
        (qube,) = ended.document["qubes"]
        assert qube["name"] == "żółw"
        (file,) = qube["files"]
        assert set(file) == {"name", "chunks", "stored_size", "in_qubes_xml"}
        assert (file["name"], file["chunks"]) == ("private.img", 1)

    def test_a_folder_of_the_archive_where_qubes_xml_is_lost(self, tmp_path: Path) -> None:
        member = "v\udcffm/private.img.000.enc"
        path = alter.without(SAMPLE, tmp_path / "a", "qubes.xml.000.enc")
        path = alter.extended(path, tmp_path / "b", forged_archive(member, b"x" * 200))
        ended = call("verify", path, "--json", *KEY)
        assert ended.status == 1
        assert statuses(ended.document)[r"v\xffm/private.img"] == "damaged"
        assert statuses(ended.document)["vm1/private.img"] == "ok"
        assert statuses(ended.document)["/qubes.xml"] == "missing"
