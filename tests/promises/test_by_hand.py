"""The way by hand gives the files of a backup, and nothing that somebody planted in the archive.

The commands are those of the page itself, run by the shell with the real programs.
"""

from __future__ import annotations

import hashlib
import os
import pty
import re
import select
import shutil
import termios
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.docs import byhand
from tests.docs.console import flipped
from tests.maker import BackupMaker, assemble
from tests.secondreader import Backup, members
from tests.support import vectorfiles
from tests.support.commandline import SAMPLE, SAMPLE_FILE, run, wait_for
from tests.support.restored import snapshot
from tests.support.speed import rows
from tests.support.tarbytes import header, padded, sealed

pytestmark = pytest.mark.usefixtures("tools")

PASSPHRASE = SAMPLE_FILE.read_text().strip()
VECTOR = "correct horse battery staple"
IMAGE = b"vm1/private.img"
PLANTED = b"not your file"
GOOD = "GOOD: vm1/private.img is in the folder"
STOP = "STOP: vm1/private.img is not whole"


def shells() -> list[list[str]]:
    """Each shell of this machine that a rescue system may have."""
    known = [["dash"], ["bash"], ["bash", "--posix"], ["mksh"], ["zsh"]]
    return [shell for shell in known if shutil.which(shell[0])]


def member(name: bytes, data: bytes = b"", **fields: bytes) -> bytes:
    """A member that anybody can write."""
    return header(name, size=len(data), **fields) + padded(data)  # type: ignore[arg-type]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hash of the sample's image, restored by the program."""
    out = tmp_path_factory.mktemp("expected") / "out"
    assert run("restore", SAMPLE, "personal", "-o", out, "-p", SAMPLE_FILE).status == 0
    return digest(out / "personal/private.img")


class Place:
    """A folder in which somebody works by hand, beside files of his own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.own = folder / "own"
        self.own.mkdir()
        (self.own / "letter").write_bytes(b"my own letter")
        self.before = snapshot(self.own)
        self.work = folder / "work"
        self.work.mkdir()

    def go(self, stored: bytes, number: int, passphrase: str, **how: object) -> str:
        """Runs the page's commands on a backup; returns what they print."""
        backup = self.folder / "backup"
        backup.write_bytes(stored)
        commands = byhand.for_backup(byhand.blocks(number), backup)
        said = byhand.run(commands, self.work, passphrase, **how)  # type: ignore[arg-type]
        assert snapshot(self.own) == self.before, "a file of the user was changed"
        assert set(os.listdir(self.folder)) == {"own", "work", "backup"}
        assert os.listdir(self.work) == ["by-hand"]
        return said

    def result(self, folder: str = "personal") -> Path:
        return self.work / "by-hand" / folder / "vm1/private.img"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


class TestThePages:
    def test_the_kit_has_the_same_commands(self) -> None:
        first, *others = byhand.kit_blocks(byhand.KIT.read_text("ascii"))
        assert others == byhand.blocks(4)[1:]
        assert first.startswith("backup=/")

    def test_no_exclamation_mark_is_in_the_reach_of_a_shell_s_history(self) -> None:
        """Interactive bash takes `!$` within double quotes for the last command's last word."""
        code = "".join(byhand.blocks(4) + byhand.blocks(3) + byhand.blocks(2)).replace("#!/", "")
        assert not re.search(r"![^ ]", re.sub(r"'[^'\n]*'", "", code))


class TestGoodBackups:
    @rows("shell", shells(), ids=" ".join)
    def test_format_4(self, place: Place, image: str, shell: Sequence[str]) -> None:
        said = place.go(SAMPLE.read_bytes(), 4, PASSPHRASE, shell=shell)
        assert said == byhand.shown(4)
        assert digest(place.result()) == image

    @rows("shell", shells(), ids=" ".join)
    def test_format_3(self, place: Place, shell: Sequence[str]) -> None:
        said = place.go(stored("v3-standalone"), 3, VECTOR, shell=shell)
        assert said == byhand.shown(3)
        assert digest(place.result("alone")) == expected("v3-standalone")

    def test_format_2(self, place: Place) -> None:
        said = place.go(stored("v2-version-2"), 2, VECTOR)
        assert said.endswith(byhand.shown(2))
        assert digest(place.result()) == expected("v2-version-2")

    def test_format_2_without_a_header_in_volumes(self, place: Place) -> None:
        changes = {"digest=SHA512": "digest=SHA1", "gzip -dc": "cat"}
        said = place.go(stored("v2-beta3-encrypted"), 2, VECTOR, changes=changes)
        assert "pieces: 3\n" + GOOD in said
        assert digest(place.result()) == expected("v2-beta3-encrypted")

    @rows(
        ("name", "program", "file"),
        [
            ("xz-many-chunks", "xz -dc", "private.img"),
            ("zstd-zero-image", "zstd -dc", "private.img"),
            ("uncompressed-exact-chunk", byhand.UNCOMPRESSED[0], "firewall.xml"),
        ],
    )
    def test_other_programs_and_many_pieces(
        self, place: Place, name: str, program: str, file: str
    ) -> None:
        changes = {"gzip -dc": program, "vm1/private.img": f"vm1/{file}"}
        said = place.go(stored(name), 4, VECTOR, changes=changes)
        assert f"GOOD: vm1/{file} is in the folder personal" in said
        assert digest(place.result().with_name(file)) == expected(name, file)

    def test_with_the_other_tar_that_the_page_names(
        self, place: Place, image: str, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        bsdtar = shutil.which("bsdtar")
        if bsdtar is None:
            pytest.skip("there is no bsdtar")
        programs = tmp_path_factory.mktemp("programs")
        (programs / "tar").symlink_to(bsdtar)
        changes = {"umask 077\n": f"umask 077\nPATH={programs}:$PATH\n"}
        said = place.go(SAMPLE.read_bytes(), 4, PASSPHRASE, changes=changes)
        assert said == byhand.shown(4)
        assert digest(place.result()) == image

    def test_the_other_name_of_the_list_of_qubes(self, place: Place) -> None:
        changes = {"get qubes.xml list\n": "get qubes.xml list ../../\n"}
        said = place.go(stored("gzip-r401rc1"), 4, VECTOR, changes=changes)
        assert "GOOD: qubes.xml is in the folder list\n" in said
        assert STOP not in said

    @pytest.mark.slow
    def test_a_thousand_pieces_are_in_order(self, tmp_path: Path) -> None:
        """With a program that decrypts nothing, as a thousand derivations would take long."""
        for folder in ("stored", "plain"):
            (tmp_path / folder).mkdir()
        for number in range(1002):
            (tmp_path / f"stored/f.{number:03d}.enc").write_text(f"{number}\n")
        pieces = "".join(block for block in byhand.blocks(4) if block.startswith("pieces()"))
        script = [pieces, "scrypt() { cp $3 $4; }\npieces f\n"]
        said = byhand.run(script, tmp_path, "")
        assert said == "".join(f"{number}\n" for number in range(1002)) + "pieces: 1002\n"


#: Name of a case → members that anybody can add; the check shows them, and the file comes out.
SAFE: dict[str, bytes] = {
    "plain image before the first piece": member(IMAGE + b".0", PLANTED),
    "plain pieces": member(IMAGE + b".000", PLANTED) + member(IMAGE + b".001", PLANTED),
    "plain image": member(IMAGE, PLANTED),
    "plain list": member(b"qubes.xml", PLANTED) + member(b"list/qubes.xml", PLANTED),
    "link in place of a decrypted piece": member(IMAGE + b".000", kind=b"2", link=b"OWN/letter"),
    "links by the names of the page": b"".join(
        member(name, kind=b"2", link=b"OWN/letter")
        for name in (b"plain/piece", b"piece", b"plain/backup-header", b"header")
    ),
    "a folder that is a link": member(b"plain", kind=b"2", link=b"OWN")
    + member(b"plain/letter", PLANTED),
    "a link that leads up": member(b"up", kind=b"2", link=b"../../../own")
    + member(b"up/letter", PLANTED)
    + member(b"up/letter.enc", PLANTED),
    "hard links": member(b"mine.enc", kind=b"1", link=b"OWN/letter")
    + member(b"vm1/mine.enc", kind=b"1", link=b"../../../own/letter")
    + member(IMAGE + b".000", kind=b"1", link=IMAGE + b".000.enc"),
    "names that lead up": member(b"../plain/piece", PLANTED)
    + member(b"../../../own/letter", PLANTED)
    + member(b"vm1/../../personal.part/vm1/private.img", PLANTED),
    "names from the root": member(b"OWN/letter", PLANTED),
    "a device": member(b"vm1/null", kind=b"3"),
    "a FIFO": member(b"vm1/private.img.000", kind=b"6"),
    "a FIFO as the next piece": member(IMAGE + b".001.enc", kind=b"6"),
    "a device as the next piece": member(IMAGE + b".001.enc", kind=b"3"),
    "spaces": member(b"vm1/private.img.0 0", PLANTED) + member(b" ", PLANTED),
    "line ends": member(b"vm1/private.img.000\n.enc\nx", PLANTED) + member(b"\n", PLANTED),
    "what a terminal obeys": member(b"vm1/\x1b]0;title\x07", PLANTED),
    "what a shell expands": member(b"vm1/$(touch own)", PLANTED) + member(b"-rf", PLANTED),
}
#: The same, where a piece is replaced, or one is added: the file can't be restored.
COSTLY: dict[str, bytes] = {
    "a piece twice": member(IMAGE + b".000.enc", PLANTED),
    "a piece more": member(IMAGE + b".001.enc", PLANTED),
    "an empty piece": member(IMAGE + b".000.enc"),
    "a link in place of a piece": member(IMAGE + b".000.enc", kind=b"2", link=b"OWN/letter"),
    "a FIFO in place of a piece": member(IMAGE + b".000.enc", kind=b"6"),
}


class TestPlanted:
    def members(self, planted: bytes, place: Place) -> bytes:
        """The members with the path of the user's own files, as whoever knows it would write."""
        own = os.fsencode(place.own)
        assert len(own) < 80
        data = b""
        for at in range(0, len(planted), 512):
            block = planted[at : at + 512]
            if b"OWN" in block:
                fields = bytearray(block)
                for start in (0, 157):
                    field = bytes(fields[start : start + 100]).replace(b"OWN", own)[:100]
                    fields[start : start + 100] = field.ljust(100, b"\0")
                block = sealed(bytes(fields))
            data += block
        return data

    @rows("name", list(SAFE), quick=2)
    @rows("where", ["in front", "behind"])
    def test_what_is_added_is_not_used(
        self, place: Place, image: str, name: str, where: str
    ) -> None:
        planted, whole = self.members(SAFE[name], place), SAMPLE.read_bytes()
        said = place.go(planted + whole if where == "in front" else whole + planted, 4, PASSPHRASE)
        assert digest(place.result()) == image
        assert said.count("GOOD: ") == 2
        checked = said.partition("version=4")[0]
        assert checked, "the check shows what was planted"
        assert "\x1b" not in checked
        assert not list(place.work.rglob("*.part"))

    @rows("name", list(COSTLY), quick=2)
    def test_what_replaces_a_piece_is_noticed(self, place: Place, name: str) -> None:
        said = place.go(SAMPLE.read_bytes() + self.members(COSTLY[name], place), 4, PASSPHRASE)
        assert STOP in said
        assert GOOD not in said
        assert not place.result().exists()

    def test_another_header_is_noticed(self, place: Place) -> None:
        other = member(b"backup-header", b"version=4\ncompression-filter=evil\n")
        said = place.go(SAMPLE.read_bytes() + other, 4, PASSPHRASE)
        assert "stored/backup-header plain/backup-header differ" in said
        assert "evil" not in said
        assert GOOD not in said

    @rows("index", range(11), quick=2)
    def test_a_piece_that_is_missing_is_noticed(self, place: Place, index: int) -> None:
        lost = f"vm1/private.img.{index:03d}.enc"
        said = place.go(without(stored("xz-many-chunks"), lost), 4, VECTOR, changes=XZ)
        assert STOP in said
        assert not place.result().exists()

    def test_an_altered_piece_is_noticed(self, place: Place) -> None:
        altered = flipped(stored("xz-many-chunks"), "vm1/private.img.005.enc", 100)
        said = place.go(altered, 4, VECTOR, changes=XZ)
        assert STOP in said
        assert not place.result().exists()

    def test_a_wrong_passphrase(self, place: Place) -> None:
        said = place.go(SAMPLE.read_bytes(), 4, PASSPHRASE + "x")
        assert "GOOD" not in said
        assert "version=4" not in said

    def test_a_second_try_does_not_take_what_the_first_one_left(self, place: Place) -> None:
        commands = byhand.for_backup(byhand.blocks(4), SAMPLE)
        changes = {"ls personal/vm1\n": "get vm1/private.img personal\n"}
        said = byhand.run(commands, place.work, PASSPHRASE, changes=changes)
        assert GOOD in said
        assert said.endswith("STOP: personal or personal.part is there: take another name\n")


class TestPlantedInOlderBackups:
    @rows(
        "planted",
        [
            member(b"vm1/private.img.0", PLANTED),
            member(b"vm1/private.img.00", PLANTED) + member(b"vm1/private.img.00.hmac", b"x= 0"),
            member(b"vm1/private.img", PLANTED),
            member(b"plain", kind=b"2", link=b"/tmp"),
            member(b"vm1/private.img.001", kind=b"6"),
        ],
    )
    @pytest.mark.parametrize(("number", "name"), [(3, "v3-standalone"), (2, "v2-version-2")])
    def test_what_is_added_is_not_used(
        self, place: Place, number: int, name: str, planted: bytes
    ) -> None:
        said = place.go(stored(name) + planted, number, VECTOR)
        folder = "alone" if number == 3 else "personal"
        assert digest(place.result(folder)) == expected(name)
        assert said.startswith(("-", "l", "p", "tar: "))

    @rows(
        "planted",
        [
            member(b"vm1/private.img.000", PLANTED),
            member(b"vm1/private.img.001", PLANTED),
            member(b"vm1/private.img.000", PLANTED) + member(b"vm1/private.img.000.hmac"),
            member(b"vm1/private.img.000", kind=b"2", link=b"/nowhere"),
            member(b"vm1/private.img.000", kind=b"2", link=b"/etc/passwd")
            + member(b"vm1/private.img.000.hmac", kind=b"2", link=b"/nowhere"),
            member(b"vm1/private.img.000.hmac", b"(stdin)= "),
        ],
    )
    @pytest.mark.parametrize(("number", "name"), [(3, "v3-standalone"), (2, "v2-version-2")])
    def test_what_replaces_a_piece_is_noticed(
        self, place: Place, number: int, name: str, planted: bytes
    ) -> None:
        said = place.go(stored(name) + planted, number, VECTOR)
        assert STOP in said
        assert GOOD not in said

    @rows("number", range(3))
    def test_a_volume_that_is_missing_is_noticed(self, place: Place, number: int) -> None:
        changes = {"digest=SHA512": "digest=SHA1", "gzip -dc": "cat"}
        lost = f"vm1/private.img.{number:03d}"
        said = place.go(without(stored("v2-beta3-encrypted"), lost), 2, VECTOR, changes=changes)
        assert STOP in said
        assert GOOD not in said

    def test_volumes_that_changed_places_are_noticed(self, place: Place) -> None:
        """Nothing in this format binds a name to what is proven."""
        whole = stored("v2-beta3-encrypted")
        parts = {m: whole_member(whole, m) for m in ("001", "001.hmac", "002", "002.hmac")}
        swapped = {"001": "002", "002": "001", "001.hmac": "002.hmac", "002.hmac": "001.hmac"}
        added = b"".join(
            member(f"vm1/private.img.{name}".encode(), parts[other])
            for name, other in swapped.items()
        )
        changes = {"digest=SHA512": "digest=SHA1", "gzip -dc": "cat"}
        said = place.go(whole + added, 2, VECTOR, changes=changes)
        assert STOP in said
        assert GOOD not in said

    def test_a_piece_of_an_encrypted_file_that_is_missing_is_noticed(self, place: Place) -> None:
        name = "v3-gzip-many-chunks"
        secret = str(vectorfiles.load(name)["passphrase"])
        changes = {"get vm1/private.img alone": "get vm5/icon.png alone"}
        assert "GOOD: vm5/icon.png" in place.go(stored(name), 3, secret, changes=changes)
        shutil.rmtree(place.work / "by-hand")
        said = place.go(without(stored(name), "vm5/icon.png.001"), 3, secret, changes=changes)
        assert "STOP: vm5/icon.png" in said


class TestTyping:
    """Copies the blocks into a terminal and types the passphrase, like a person."""

    @pytest.mark.parametrize(
        "shell", [["bash", "--norc", "--noediting", "-i"], ["dash", "-i"]], ids=" ".join
    )
    def test_at_a_terminal(self, tmp_path: Path, image: str, shell: list[str]) -> None:
        if shutil.which(shell[0]) is None:
            pytest.skip(f"no {shell[0]}")
        said = typed(shell, tmp_path, byhand.for_backup(byhand.blocks(4), SAMPLE), PASSPHRASE)
        assert "GOOD: vm1/private.img is in the folder personal\r\n" in said
        assert digest(tmp_path / "by-hand/personal/vm1/private.img") == image
        assert PASSPHRASE not in said


def typed(shell: list[str], folder: Path, blocks: list[str], passphrase: str) -> str:
    """All that a terminal shows while somebody copies one block after another into a shell."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        os.execvp(shell[0], shell)
    said = ""
    try:
        for number, block in enumerate(blocks):
            os.write(terminal, block.encode())
            if "read -r pass" in block:
                wait_for(lambda: not termios.tcgetattr(terminal)[3] & termios.ECHO)
                os.write(terminal, f"{passphrase}\n".encode())
            os.write(terminal, f"echo '='{number}=\n".encode())
            said += until(terminal, f"={number}=\r\n")
        os.write(terminal, b"exit\n")
        return said
    finally:
        os.close(terminal)
        os.waitpid(process, 0)


def until(terminal: int, end: str) -> str:
    said = ""
    while end not in said:
        ready, _, _ = select.select([terminal], [], [], byhand.SECONDS)
        assert ready, said
        said += os.read(terminal, 65536).decode(errors="replace")
    return said


XZ = {"gzip -dc": "xz -dc"}


def whole_member(backup: bytes, number: str) -> bytes:
    return Backup(backup, VECTOR).members[f"vm1/private.img.{number}"]


def without(backup: bytes, name: str) -> bytes:
    """A backup without one member."""
    for found in members(backup, concatenated=True):
        if found.name.decode() == name:
            end = found.data + found.stored + -found.stored % 512
            return backup[: found.start] + backup[end:]
    raise KeyError(name)


def stored(name: str) -> bytes:
    return vectorfiles.backup_path(name).read_bytes()


def expected(name: str, file: str = "private.img") -> str:
    files = vectorfiles.load(name)["files"]
    return str(next(f["sha256"] for f in files if f["stored_name"] == f"vm1/{file}"))


class TestCutBetweenTwoFiles:
    """tar ends with status 0 at the end of an archive that was cut in front of a header."""

    @pytest.mark.parametrize("is_cut", [False, True])
    def test_is_not_good(
        self, tmp_path_factory: pytest.TempPathFactory, place: Place, is_cut: bool
    ) -> None:
        folder = tmp_path_factory.mktemp("home")
        maker = BackupMaker(folder / "maker", compression_filter=None, chunk_size=10_752)
        home = folder / "user"
        home.mkdir()
        for number in range(40):  # 1,024 bytes for each, 512 for the folder: ten in the first piece
            (home / f"{number:02d}").write_bytes(b"x" * 512)
        maker.add_qube("personal", files={"private.img": b"x" * 30_000})
        maker.add_home("user", home)
        members = maker.members()
        if is_cut:
            members = [m for m in members if not re.match(r"dom0-home/user\.00[1-9]", m.name)]
        backup = assemble(members, folder / "made")
        changes = {
            "gzip -dc": byhand.UNCOMPRESSED[0],
            "get vm1/private.img personal\n": "get dom0-home/user personal\n",
        }
        said = place.go(backup.read_bytes(), 4, maker.passphrase, changes=changes)
        assert ("GOOD: dom0-home/user" in said) is not is_cut
        assert ("STOP: dom0-home/user is not whole" in said) is is_cut
