"""Errors get the names of their file and chunk in one place, and keep those they have."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import qbackup
from qbackup.base.errors import ChunkDamaged, Damaged, QBackupError
from qbackup.base.naming import naming

PRODUCT = Path(qbackup.__file__).parent
#: Where errors get names: where they are made, and where they pass.
PLACES = {"base/errors.py", "base/naming.py"}


def passed(error: QBackupError, file: str | None = None, chunk: str | None = None) -> QBackupError:
    with pytest.raises(QBackupError) as caught, naming(file, chunk=chunk):
        raise error
    assert caught.value is error
    return error


def test_an_error_without_names_gets_both() -> None:
    error = passed(Damaged("altered"), "work/private.img", "vm1/private.img.003")
    assert (error.file, error.chunk) == ("work/private.img", "vm1/private.img.003")
    assert str(error) == "vm1/private.img.003: altered"


def test_names_that_are_there_stay() -> None:
    error = passed(ChunkDamaged("altered", file="a", chunk="b"), "c", "d")
    assert (error.file, error.chunk) == ("a", "b")


def test_a_chunk_is_no_file() -> None:
    error = passed(Damaged("altered"), chunk="vm1/private.img.003")
    assert error.file is None


def test_names_are_made_printable() -> None:
    error = passed(Damaged("altered"), "work/\x1b[31m", "\x1b]0;\udcff")
    assert "\x1b" not in f"{error.file}{error.chunk}"
    assert str(error).isprintable()


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(ValueError, match=r"^x$"), naming("work/private.img"):
        raise ValueError("x")


def assignments(path: Path) -> list[str]:
    """Assignments to `file` or `chunk` of anything but the object's own self."""
    return [
        f"{path.relative_to(PRODUCT)}:{node.lineno}"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and node.attr in ("file", "chunk")
        and not (isinstance(node.value, ast.Name) and node.value.id == "self")
    ]


def test_no_error_is_named_by_assignment_elsewhere() -> None:
    paths = [path for path in PRODUCT.rglob("*.py") if str(path.relative_to(PRODUCT)) not in PLACES]
    assert [found for path in paths for found in assignments(path)] == []
    assert assignments(PRODUCT / "base/naming.py")  # the search finds what it is for
