"""``NAME.part`` goes even if a signal comes while the system is making it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qbackup.restore.output.writer import FolderWriter
from qbackup.restore.sinks import CannotWrite

KINDS = ["image", "tree"]


def interrupted_after(call: Callable[..., object], suffix: str) -> Callable[..., object]:
    """Gives a system call that a signal ends after its work, once, for a name that ends so."""
    left = [KeyboardInterrupt]

    def made(name: bytes, *args: object, **options: object) -> object:
        result = call(name, *args, **options)
        if left and os.fsencode(name).endswith(suffix.encode()):
            raise left.pop()
        return result

    return made


def begun(sink: Any) -> None:
    """Writes first bytes, as only these have anything made."""
    if hasattr(sink, "folder"):
        sink.folder("below")
    else:
        sink.write(0, memoryview(b"verified"))


def interrupt(monkeypatch: pytest.MonkeyPatch, name: str, suffix: str) -> None:
    monkeypatch.setattr(os, name, interrupted_after(getattr(os, name), suffix))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


class TestInterruptedWhileMaking:
    @pytest.mark.parametrize("is_own", [True, False])
    @pytest.mark.parametrize(
        ("kind", "call"), [("image", "open"), ("tree", "mkdir"), ("tree", "open")]
    )
    def test_leaves_no_part(
        self, out: Path, monkeypatch: pytest.MonkeyPatch, kind: str, call: str, is_own: bool
    ) -> None:
        writer = FolderWriter(out, is_own=is_own)
        interrupt(monkeypatch, call, ".part")
        with pytest.raises(KeyboardInterrupt), getattr(writer, kind)("personal", "x") as sink:
            begun(sink)
            pytest.fail("it was interrupted")
        assert os.listdir(out / "personal") == []

    def test_leaves_no_probe(self, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        writer = FolderWriter(out)
        real = os.open

        def refuse(name: bytes, *args: object, **options: object) -> int:
            if os.fsencode(name).endswith(b".part"):
                raise OSError(22, "refused")
            fd = real(name, *args, **options)  # type: ignore[arg-type]
            if b"probe" in os.fsencode(name):
                raise KeyboardInterrupt
            return fd

        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(KeyboardInterrupt), writer.image("personal", "x") as sink:
            begun(sink)
            pytest.fail("it was interrupted")
        assert os.listdir(out / "personal") == []


class TestPartOfAnother:
    def test_made_meanwhile_stays(self, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        writer = FolderWriter(out, is_own=False)
        real = os.open

        def late(name: bytes, *args: object, **options: object) -> int:
            if os.fsencode(name).endswith(b".part"):
                (out / "personal/x.part").write_bytes(b"")
            return real(name, *args, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(os, "open", late)
        with pytest.raises(CannotWrite), writer.image("personal", "x"):
            pytest.fail("the name was taken")
        assert os.listdir(out / "personal") == ["x.part"]

    @pytest.mark.parametrize("kind", KINDS)
    def test_that_was_there_stays(self, out: Path, kind: str) -> None:
        (out / "personal").mkdir(parents=True)
        (out / "personal/x.part").write_bytes(b"")
        writer = FolderWriter(out, is_own=False)
        with pytest.raises(CannotWrite), getattr(writer, kind)("personal", "x"):
            pytest.fail("the name was taken")
        assert (out / "personal/x.part").is_file()
