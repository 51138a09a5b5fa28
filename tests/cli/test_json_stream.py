"""`ls --json`: a document that is written while its list is made, and is whole however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qbackup.base.errors import Damaged, MachineError
from qbackup.cli import output, signals
from qbackup.cli.documents import to_json
from qbackup.cli.json_stream import JsonStream
from tests.support.commandline import PATIENCE_SECONDS, call, one_document, start
from tests.support.crowded import crowded

ENTRIES = [{"path": f"/{number}", "size": number, "list": [1, 2]} for number in range(5)]


def written(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


class TestText:
    @pytest.mark.parametrize("count", [0, 1, 5])
    @pytest.mark.parametrize("rest", [{}, {"warnings": ["a\nb"], "partitions": []}])
    def test_is_that_of_a_document_in_one_piece(
        self, count: int, rest: dict[str, Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        JsonStream().write("entries", iter(ENTRIES[:count]), lambda: rest)
        assert written(capsys) == to_json({"entries": ENTRIES[:count], **rest}) + "\n"

    def test_is_written_before_the_last_entry_is_there(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("qbackup.cli.json_stream._PIECE_SIZE", 100)
        seen = []

        def entries() -> Iterator[dict[str, Any]]:
            for entry in ENTRIES:
                seen.append(written(capsys))
                yield entry

        JsonStream().write("entries", entries(), dict)
        assert "/0" in "".join(seen[:3])


class TestEnd:
    """By an error in the middle of the list."""

    def fail(self, error: BaseException, after: int) -> JsonStream:
        def entries() -> Iterator[dict[str, Any]]:
            yield from ENTRIES[:after]
            raise error

        stream = JsonStream()
        with pytest.raises(type(error)):
            stream.write("entries", entries(), dict)
        return stream

    def test_before_the_first_entry_leaves_the_output_alone(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert not self.fail(Damaged("broken"), 0).is_begun
        assert written(capsys) == ""

    def test_in_the_middle_ends_the_document(self, capsys: pytest.CaptureFixture[str]) -> None:
        stream = self.fail(Damaged("broken"), 3)
        assert stream.is_begun
        stream.end({"ok": False, "error": "broken"})
        expected = {"entries": ENTRIES[:3], "ok": False, "error": "broken"}
        assert written(capsys) == to_json(expected) + "\n"

    @pytest.mark.parametrize("sent", [0, 1, 9])
    def test_by_a_signal_while_the_end_is_written(
        self, sent: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = bytearray()
        left = [0]

        def write_some(data: bytearray) -> None:
            is_tail = data.startswith(b"\n ]") or left[0] == 2
            if is_tail and left[0] < 2:
                found.extend(data[:sent])
                del data[:sent]
                left[0] = 2
                raise KeyboardInterrupt
            found.extend(data)
            data.clear()

        monkeypatch.setattr(output, "write_some", write_some)
        stream = JsonStream()
        with pytest.raises(KeyboardInterrupt):
            stream.write("entries", iter(ENTRIES), lambda: {"warnings": []})
        stream.end({"ok": False})
        stream.end({"ok": False})
        document = json.loads(found)
        assert document["entries"] == ENTRIES
        assert ("ok" in document) == (sent == 0)


class TestSignals:
    def test_wait_while_text_is_written(self) -> None:
        came = []
        with pytest.raises(KeyboardInterrupt), signals.unwinding(is_program=False):
            with signals.held():
                signal.raise_signal(signal.SIGINT)
                came.append("written")
            came.append("never")
        assert came == ["written"]

    def test_never_leave_text_to_be_written_twice(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """The signal comes when the system has written, before the program knows it."""
        write = os.write

        def interrupted(number: int, data: bytes) -> int:
            count = write(number, data)
            signal.raise_signal(signal.SIGINT)
            return count

        monkeypatch.setattr(os, "write", interrupted)
        pending = bytearray(b"text")
        with (tmp_path / "out").open("w") as out:
            monkeypatch.setattr(sys, "stdout", out)
            with pytest.raises(KeyboardInterrupt), signals.unwinding(is_program=False):
                output.write_some(pending)
        assert (tmp_path / "out").read_bytes() == b"text"
        assert pending == b""

    def test_outside_of_the_command_line_are_left_alone(self) -> None:
        before = signal.getsignal(signal.SIGINT)
        with signals.held():
            assert signal.getsignal(signal.SIGINT) is before

    def test_in_other_threads_are_no_matter(self) -> None:
        faults: list[BaseException] = []

        def work() -> None:
            try:
                with signals.held():
                    pass
            except BaseException as error:
                faults.append(error)

        with signals.unwinding(is_program=False):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        assert faults == []

    @pytest.mark.slow
    @pytest.mark.parametrize("read", [1, 5000, 70_000, 300_001])
    def test_leave_a_whole_document(self, read: int, tmp_path: Path) -> None:
        """The reader stops to read, then Ctrl-C comes, then the reader goes on."""
        (tmp_path / "image").write_bytes(crowded(30_000))
        with start("ls", f"{tmp_path / 'image'}:/many", "--json") as process:
            assert process.stdout is not None
            data = os.read(process.stdout.fileno(), read)
            while len(data) < read:
                data += os.read(process.stdout.fileno(), read - len(data))
            process.send_signal(signal.SIGINT)
            rest, err = process.communicate(timeout=PATIENCE_SECONDS)
        document = one_document(data + rest)
        assert process.returncode == 130
        assert (document["ok"], document["error"]) == (False, "interrupted")
        assert document["entries"][0]["path"] == "/many/name-0000000"
        assert err.decode() == "qbackup: interrupted\n"


class TestCommand:
    def test_that_fails_in_the_middle_gives_one_document(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "image").write_bytes(crowded(300))
        error = MachineError("the disk is gone")
        error.advice = "look at the cable"
        monkeypatch.setattr("qbackup.cli.images.mount_notes", _raising(error))
        ended = call("ls", f"{tmp_path / 'image'}:/many", "--json")
        assert ended.status == 5
        assert ended.document["error"] == "the disk is gone"
        assert (ended.document["ok"], ended.document["kind"]) == (False, "MachineError")
        assert ended.document["advice"] == "look at the cable"
        assert len(ended.document["entries"]) == 300
        assert "qbackup: the disk is gone" in ended.err

    def test_that_has_no_memory_in_the_middle_gives_one_document(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "image").write_bytes(crowded(300))
        monkeypatch.setattr("qbackup.cli.images.mount_notes", _raising(MemoryError()))
        ended = call("ls", f"{tmp_path / 'image'}:/many", "--json")
        assert (ended.status, ended.document["error"]) == (5, "out of memory")

    @pytest.mark.slow
    def test_whose_reader_has_gone_is_status_141(self, tmp_path: Path) -> None:
        (tmp_path / "image").write_bytes(crowded(20_000))
        with start("ls", f"{tmp_path / 'image'}:/many", "--json") as process:
            assert process.stdout is not None
            process.stdout.read(100)
            process.stdout.close()
            assert process.wait(PATIENCE_SECONDS) == 141

    def test_on_a_full_disk_is_status_5(self, tmp_path: Path) -> None:
        (tmp_path / "image").write_bytes(crowded(2000))
        with open("/dev/full", "wb") as full:
            process = start("ls", f"{tmp_path / 'image'}:/many", "--json", stdout=full)
            _, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 5
        assert b"can't write to standard output" in err
        assert isinstance(process, subprocess.Popen) and b"Traceback" not in err


def _raising(error: BaseException) -> Any:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    return fail
