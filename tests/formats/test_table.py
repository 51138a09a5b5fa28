"""Table of formats: one row for each, and nothing outside of the package that knows one."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

import qbackup
from qbackup import formats
from qbackup.formats import FORMATS, FormatRow, assume_format, choose_format, find_by_copy
from qbackup.formats.header import BackupHeader, header_for_id
from qbackup.formats.v4 import Format4
from tests.maker import BackupMaker, published_header

PRODUCT = Path(qbackup.__file__).parent
OUTSIDE = [
    path for path in sorted(PRODUCT.rglob("*.py")) if PRODUCT / "formats" not in path.parents
]
MODULES = [f"qbackup.formats.v{row.version}" for row in FORMATS]
#: Other things that have a version with a number: scrypt's encrypted files.
OTHER_VERSIONS = {"crypto/scrypt_format.py"}
ID = "20240917T101112-1234"


def is_version(node: ast.expr) -> bool:
    """Tells if this is a value called version, or text made of one."""
    return any(
        (isinstance(part, ast.Name) and part.id.endswith("version"))
        or (isinstance(part, ast.Attribute) and part.attr == "version")
        for part in ast.walk(node)
    )


def has_number(node: ast.AST) -> bool:
    return any(
        isinstance(part, ast.Constant)
        and (type(part.value) is int or str(part.value) in {str(row.version) for row in FORMATS})
        for part in ast.walk(node)
    )


def uses_of_numbers(tree: ast.AST) -> Iterator[str]:
    """Gives each place that compares a version with a number, or gives one to somebody else."""
    yield from (ast.unparse(node) for node in ast.walk(tree) if uses_a_number(node))


def uses_a_number(node: ast.AST) -> bool:
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        return any(map(is_version, sides)) and any(map(has_number, sides))
    if isinstance(node, ast.keyword):
        return node.arg == "version" and has_number(node.value)
    if isinstance(node, ast.Subscript):
        return is_version(node.slice)
    return isinstance(node, ast.Match) and is_version(node.subject)


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


class TestNothingOutsideKnowsAFormat:
    def test_no_version_meets_a_number(self) -> None:
        found = {
            path.relative_to(PRODUCT).as_posix(): uses
            for path in OUTSIDE
            if (uses := list(uses_of_numbers(ast.parse(path.read_text("utf-8")))))
        }
        assert set(found) <= OTHER_VERSIONS, found

    @pytest.mark.parametrize(
        "text",
        [
            "header.version == 4",
            "version in (2, 3)",
            "4 <= self.header.version",
            "str(header.version) == '4'",
            "RULES[header.version]",
            "BackupHeader(version=4)",
            "match version:\n    case 4: pass",
        ],
    )
    def test_such_a_place_is_noticed(self, text: str) -> None:
        assert list(uses_of_numbers(ast.parse(text)))

    def test_none_imports_the_module_of_a_format(self) -> None:
        found = [
            (path.relative_to(PRODUCT).as_posix(), name)
            for path in OUTSIDE
            for name in imports(ast.parse(path.read_text("utf-8")))
            if name.startswith(tuple(MODULES))
        ]
        assert not found


class TestRows:
    @pytest.mark.parametrize("row", FORMATS, ids=lambda row: str(row.version))
    def test_one_makes_the_format_of_its_version(self, row: FormatRow) -> None:
        format_ = choose_format(row.version)
        assert (format_.version, format_.naming) == (row.version, row.naming)

    def test_each_version_has_one(self) -> None:
        versions = [row.version for row in FORMATS]
        assert versions == sorted(set(versions), reverse=True)

    def test_names_of_members_are_tried_from_the_newest_format_on(self) -> None:
        assert [naming.suffix for naming in formats.NAMINGS] == [".enc", ""]

    def test_the_copy_of_the_header_shows_the_format(self) -> None:
        row = find_by_copy(b"scrypt\0\x14")
        assert row is not None and row.version == 4
        assert find_by_copy(b"(stdin)= 00") is None and find_by_copy(b"") is None

    def test_without_a_header_the_newest_is_assumed(self) -> None:
        assert assume_format().version == FORMATS[0].version

    def test_an_id_makes_a_header(self) -> None:
        written = BackupHeader.parse(published_header(ID))
        assert header_for_id(4, ID, compression_filter="gzip") == written
        assert header_for_id(4, ID) == dataclasses.replace(
            written, compressed=False, compression_filter=None
        )


class Format5(Format4):
    """A format that differs from format 4 by its version alone."""

    version = 5


def test_a_new_format_is_a_row(
    tools: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup of version 5 is restored by one more row, and not without."""
    header = published_header(ID).replace(b"version=4", b"version=5")
    maker = BackupMaker(tmp_path / "maker", header=header)
    maker.add_qube("work", files={"private.img": b"data" * 999})
    backup = maker.write(tmp_path / "backup")
    with pytest.raises(qbackup.UnsupportedFormat, match="format 5"):
        qbackup.open(backup)
    row = dataclasses.replace(FORMATS[0], version=5, create=lambda _: Format5())
    monkeypatch.setattr(formats, "FORMATS", (row, *FORMATS))
    with qbackup.open(backup, passphrase=maker.passphrase) as archive:
        assert archive.header.version == 5
        archive.restore(tmp_path / "out")
    assert (tmp_path / "out/work/private.img").read_bytes() == b"data" * 999
