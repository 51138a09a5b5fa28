"""`python -m qbackup` in a folder of somebody else: only qbackup itself may come from there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import qbackup
from tests.support.commandline import SAMPLE, SAMPLE_FILE
from tests.support.speed import rows

PYTHON = getattr(sys, "_base_executable", sys.executable)
PACKAGES = ("Crypto", "pyscrypt", "rich", "isal", "fsspec", "llvmlite", "backports", "distributed")
MARK = "open({seen!r}, 'a').write(__name__ + '\\n')\n"


class Stick:
    """A folder with an unpacked qbackup, and a module of each name that something may import."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "stick"
        self.seen = folder / "seen"
        shutil.copytree(Path(qbackup.__file__).parent, self.folder / "qbackup")
        for name in {*sys.stdlib_module_names, *PACKAGES}:
            self.plant(name)
        self.plant("nothing")
        self._leave_out_what_python_takes()

    def plant(self, name: str) -> None:
        (self.folder / name).mkdir()
        (self.folder / name / "__init__.py").write_text(MARK.format(seen=str(self.seen)))

    def _leave_out_what_python_takes(self) -> None:
        """Removes what Python itself imports for `-m`, before any code of a package can run."""
        (self.folder / "nothing/__main__.py").touch()
        while taken := self.run("nothing")[1] - {"nothing"}:
            for name in taken:
                shutil.rmtree(self.folder / name)

    def run(
        self, *arguments: str | Path, **environment: str
    ) -> tuple[subprocess.CompletedProcess[str], set[str]]:
        """Runs `python -m`; returns also the planted modules that were imported."""
        self.seen.write_text("")
        others = ("PYTHON", "COVERAGE")  # coverage imports much before the program does
        env = {name: value for name, value in os.environ.items() if not name.startswith(others)}
        command = [PYTHON, "-m", *map(str, arguments)]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=env | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done, {name.partition(".")[0] for name in self.seen.read_text().split()}


@pytest.fixture(scope="module")
def stick(tmp_path_factory: pytest.TempPathFactory) -> Stick:
    return Stick(tmp_path_factory.mktemp("foreign"))


class TestForeignFolder:
    def test_what_is_planted_would_be_imported(self, stick: Stick) -> None:
        (stick.folder / "nothing/__main__.py").write_text("import xml, Crypto")
        done, taken = stick.run("nothing")
        (stick.folder / "nothing/__main__.py").write_text("")
        assert done.returncode == 0
        assert {"xml", "Crypto"} <= taken

    @rows("arguments", [["--version"], ["list", SAMPLE, "-p", SAMPLE_FILE]])
    def test_nothing_but_qbackup_is_imported_from_it(
        self, stick: Stick, arguments: list[str | Path]
    ) -> None:
        done, taken = stick.run("qbackup", *arguments)
        assert taken == set()
        assert done.returncode == 0, done.stderr
        assert "personal" in done.stdout or done.stdout.startswith("qbackup ")

    @pytest.mark.slow
    def test_an_entry_of_the_user_s_own_is_left_alone(self, stick: Stick, tmp_path: Path) -> None:
        """With `-P` Python makes no entry, and the first one is the user's."""
        if sys.version_info < (3, 11):
            pytest.skip("python -P is of Python 3.11")
        done, _ = stick.run("qbackup", "--version", PYTHONSAFEPATH="1")
        assert "No module named qbackup" in done.stderr
        code = "import runpy, sys; runpy.run_module('qbackup', run_name='__main__')"
        command = [PYTHON, "-P", "-c", code, "--version"]
        env = {"PYTHONPATH": str(tmp_path / "own"), "PATH": os.defpath}
        shutil.copytree(Path(qbackup.__file__).parent, tmp_path / "own/qbackup")
        done = subprocess.run(
            command, cwd=tmp_path / "own", env=env, capture_output=True, text=True, check=False
        )
        assert done.stdout.startswith("qbackup "), done.stderr
