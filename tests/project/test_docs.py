"""The pages in docs/ say what is so: examples are computed again, code and commands run."""

from __future__ import annotations

import ast
import base64
import dataclasses
import hashlib
import importlib
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

import qbackup
from qbackup.base import errors
from qbackup.cli import commands
from tests.docs import PAGES, ROOT, code, console, examples
from tests.secondreader import Backup
from tests.support import vectorfiles
from tests.support.commandline import run
from tests.testkit import vector as testkit

LEFT_OUT = {
    "v3-zstdmt-camellia",  # a cipher that pycryptodome doesn't have
    "zstdmt-real-scrypt",  # seconds of CPU, to show what others show
}
READABLE = sorted(set(vectorfiles.names()) - LEFT_OUT)


class TestFormatPage:
    text = examples.PAGE.read_text("utf-8")

    @pytest.mark.parametrize("name", examples.EXAMPLES)
    def test_an_example_is_what_the_vectors_hold(self, name: str) -> None:
        assert examples.blocks(self.text)[name] == examples.EXAMPLES[name]()

    def test_every_example_stands_there_once(self) -> None:
        assert self.text.count("<!-- example: ") == len(examples.EXAMPLES)
        assert examples.blocks(self.text).keys() == examples.EXAMPLES.keys()

    def test_a_changed_digit_is_noticed(self) -> None:
        changed = self.text.replace("09dfd56a", "09dfd56b")
        name = "scrypt-header"
        assert examples.blocks(changed)[name] != examples.EXAMPLES[name]()
        assert examples.rewritten(changed) == self.text


@pytest.mark.parametrize("name", READABLE)
class TestTheSecondReader:
    """The page is enough to write a reader from: one that was reads every vector."""

    def opened(self, name: str) -> tuple[Backup, vectorfiles.Description]:
        vector = vectorfiles.load(name)
        return Backup(vectorfiles.backup_path(name).read_bytes(), vector["passphrase"]), vector

    def test_it_reads_every_file(self, name: str) -> None:
        backup, vector = self.opened(name)
        for file in vector["files"]:
            content = backup.file(file["stored_name"])
            assert len(content) == file["size"]
            assert hashlib.sha256(content).hexdigest() == file["sha256"]
            assert len(backup.chunks(file["stored_name"])) == file["chunks"]

    def test_it_reads_every_folder(self, name: str) -> None:
        backup, vector = self.opened(name)
        for folder in [*vector["homes"], *vector["folders"]]:
            assert backup.is_folder(folder["stored_name"])
            tree = backup.tree(folder["stored_name"])
            assert tree.keys() == {base64.b64decode(e["path_base64"]) for e in folder["entries"]}
            for entry in folder["entries"]:
                self.check(entry, *tree[base64.b64decode(entry["path_base64"])])

    def check(self, entry: dict[str, Any], member: Any, digest: str) -> None:
        if member.type in ("0", "S"):
            assert (member.size, digest) == (entry["size"], entry["sha256"])
        if member.type == "2":
            assert member.link == base64.b64decode(entry["target_base64"])

    def test_it_knows_the_qubes_and_what_must_be_there(self, name: str) -> None:
        backup, vector = self.opened(name)
        qubes = backup.qubes()
        listed = [qube for qube in vector["qubes"] if qube["path"]]
        expected = [(qube["name"], qube["path"].rstrip("/")) for qube in listed]
        assert [(qube.name, qube.path) for qube in qubes] == expected
        for qube in qubes:
            paths = {f"{qube.path}/{file}".removesuffix("/") for file in qube.required}
            assert paths <= set(backup.paths())


@pytest.mark.slow
def test_the_second_reader_reads_all_that_the_testkit_calls_sound() -> None:
    sound = [name for name in testkit.names() if name != "chunk-past-999"]  # takes long
    tried = 0
    for kit in map(testkit.load, sound):
        # Options, and chunks of others beyond a file's end, are this program's own
        has_foreign = any("/" in name for name in kit.warnings)
        if kit.expect == "success" and not kit.options and not has_foreign:
            restored = Backup(kit.backup, kit.passphrase).restored()
            shown = {path: f"{size} {digest}" for path, (size, digest) in restored.items()}
            assert shown == {_own_name(path, kit): what for path, what in kit.files.items()}, (
                kit.name
            )
            tried += 1
    assert tried > 200


def _own_name(path: str, kit: testkit.Vector) -> str:
    """A file's path with its qube's own name, which a restore can't give every folder."""
    folder, slash, file = path.partition("/")
    return f"{unquote(folder) if folder in kit.warnings else folder}{slash}{file}"


class TestCommands:
    @pytest.mark.slow
    @pytest.mark.usefixtures("tools")
    @pytest.mark.parametrize("name", console.pages())
    def test_a_page_shows_what_its_commands_print(self, name: str, tmp_path: Path) -> None:
        page = (PAGES / name).read_text("utf-8")
        fresh = [console.masked(block) for block in console.run(page, tmp_path)]
        assert [console.masked(block) for block in console.shown(page)] == fresh

    @pytest.mark.slow
    @pytest.mark.parametrize("path", ["README.md", *(f"docs/{p.name}" for p in PAGES.glob("*.md"))])
    def test_commands_without_output_work(self, path: str, tmp_path: Path) -> None:
        page = (ROOT / path).read_text("utf-8")
        printed = console.run_plain(page, tmp_path)
        assert len(printed) == len(console.plain_commands(page))
        assert len(printed) > 1 or path != "README.md"

    def test_a_page_of_commands_is_found(self) -> None:
        assert "recovery.md" in console.pages()

    def test_a_command_goes_on_behind_a_backslash(self) -> None:
        block = "$ a \\\n  b\nprinted\n$ c\n"
        assert console.commands(block) == ["a \\\n  b", "c"]


class TestCode:
    @pytest.mark.slow
    @pytest.mark.parametrize("path", code.pages(), ids=lambda path: path.name)
    def test_every_block_of_python_runs_and_prints_what_is_shown(
        self, path: Path, tmp_path: Path
    ) -> None:
        page = path.read_text("utf-8")
        assert code.run(page, tmp_path) == code.shown(page)

    @pytest.mark.slow
    def test_the_code_in_readme_runs(self, tmp_path: Path) -> None:
        code.run_readme(tmp_path)

    def test_a_block_that_fails_is_noticed(self, tmp_path: Path) -> None:
        with pytest.raises(RuntimeError, match="NotABackup"):
            code.run("```python\nimport qbackup\nqbackup.open('/dev/null')\n```\n", tmp_path)

    def test_every_public_name_is_in_the_library_guide(self) -> None:
        page = (PAGES / "library.md").read_text("utf-8")
        names = set(qbackup.__all__) - {"__version__"}
        assert {name for name in names if name not in page} == set()


def keys(value: Any) -> set[str]:
    """All keys in a JSON document."""
    if isinstance(value, dict):
        return set(value).union(*map(keys, value.values()))
    return set().union(*map(keys, value)) if isinstance(value, list) else set()


#: A call of each command with ``--json``.
JSON_CALLS = [
    ["info", "qubes-2015-06-05T101112"],
    ["list", "qubes-damaged"],
    ["restore", "qubes-damaged", "-o", "out", "--keep-damaged"],
    ["verify", "qubes-2024-09-17T101112"],
    ["ls", "qubes-2024-09-17T101112", "personal:/home/user"],
    ["cp", "qubes-2024-09-17T101112", "personal:/home/user", "copied"],
]


class TestJson:
    page = (PAGES / "reference.md").read_text("utf-8").partition("## What `--json` prints")[2]

    def test_each_command_that_has_it_stands_in_the_table_and_is_called_below(self) -> None:
        with_json = {
            row.name for row in commands.REGISTRY if "--json" in run(row.name, "--help").out
        }
        rows = [line for line in self.page.splitlines() if line.startswith("| `")]
        in_the_table = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
        assert in_the_table == with_json == {arguments[0] for arguments in JSON_CALLS}

    @pytest.mark.slow
    @pytest.mark.parametrize("arguments", JSON_CALLS)
    def test_the_reference_names_every_field(self, arguments: list[str], tmp_path: Path) -> None:
        console.prepare(tmp_path)
        secret = console.PASSPHRASES["sample" if "2024" in arguments[1] else "vector"]
        env = {"QBACKUP_PASSPHRASE": secret} if arguments[0] != "info" else {}
        document = run(*arguments, "--json", cwd=tmp_path, env=env).document
        header = set(document.pop("header", None) or ())
        assert header <= {field.name for field in dataclasses.fields(qbackup.BackupHeader)}
        assert {key for key in keys(document) if f"`{key}`" not in self.page} == set()


PAGES_AND_OTHERS = sorted(
    path for pattern in ("*.md", "docs/*.md", "[tb]e*/README.md") for path in ROOT.glob(pattern)
)


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as sites that show the repository make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES_AND_OTHERS, ids=lambda page: str(page.relative_to(ROOT)))
class TestEveryPage:
    def test_its_links_lead_somewhere(self, page: Path) -> None:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
            path, _, anchor = link.partition("#")
            if ":" in path or anchor.startswith("qbackup."):  # mkdocs looks after these
                continue
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link

    def test_it_has_nobody_install_a_stranger_s_package(self, page: Path) -> None:
        """`qbackup` on PyPI is another program."""
        text = page.read_text("utf-8").replace("Don't run `pip install qbackup`", "")
        text = text.replace("no longer say `pip install qbackup`", "")
        assert not re.search(r"pip3? install (-\S+ )*'?qbackup", text)


@pytest.mark.slow
def test_no_message_has_anybody_install_a_stranger_s_package() -> None:
    assert not re.search(r"install '?qbackup", said_by_the_product())


def members_shown() -> dict[str, list[str]]:
    """Classes of which the reference lists what it shows, by their paths."""
    page = (PAGES / "reference.md").read_text("utf-8")
    blocks = re.findall(
        r"^::: (\S+)\n    options:\n      members:\n((?:        - \w+\n)+)", page, re.MULTILINE
    )
    return {path: re.findall(r"- (\w+)", names) for path, names in blocks}


def public_attributes(class_: type) -> set[str]:
    """Names without an underscore that a class and its objects have."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(class_)))
    own = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }
    return {name for name in own | set(dir(class_)) if not name.startswith("_")}


class TestSite:
    def test_every_page_is_in_its_navigation(self) -> None:
        listed = re.findall(r"^  - .+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
        assert sorted(listed) == sorted(path.name for path in PAGES.glob("*.md"))

    def test_the_reference_has_every_public_name(self) -> None:
        page = (PAGES / "reference.md").read_text("utf-8")
        shown = set(re.findall(r"^::: \S+\.(\w+)$", page, re.MULTILINE))
        assert "errors" in shown
        names = set(qbackup.__all__) - {"__version__"}
        assert names - set(vars(errors)) - shown == set()

    @pytest.mark.parametrize("path", sorted(members_shown()))
    def test_what_it_does_not_show_of_a_class_has_an_underscore(self, path: str) -> None:
        shown = members_shown()[path]
        module, _, name = path.rpartition(".")
        found = public_attributes(getattr(importlib.import_module(module), name))
        assert found == set(shown)
        assert len(shown) == len(set(shown))

    def test_of_a_class_that_it_shows_whole_the_docstring_has_each_attribute(self) -> None:
        described = set(re.findall(r"^        (\w+): ", qbackup.Qube.__doc__ or "", re.MULTILINE))
        described |= set(re.findall(r"^    (\w+): ", qbackup.Qube.__doc__ or "", re.MULTILINE))
        assert public_attributes(qbackup.Qube) - set(dir(qbackup.Qube)) == described


def said_by_the_product() -> str:
    """Every piece of text in the product's code."""
    trees = [ast.parse(path.read_text("utf-8")) for path in ROOT.glob("qbackup/**/*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return "\n".join(node.value for node in nodes if isinstance(node.value, str))


@pytest.mark.slow
def test_the_messages_that_the_recovery_guide_explains_are_said() -> None:
    page = (PAGES / "recovery.md").read_text("utf-8")
    table = page.partition("| message | means |")[2].partition("\n\n")[0]
    messages = re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)
    assert len(messages) > 8
    said = said_by_the_product()
    assert [message for message in messages if message not in said] == []
