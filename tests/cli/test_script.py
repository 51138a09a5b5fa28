"""`qbackup script`: a shell script that gives back how the qubes of a backup were set up.

The scripts run, in dash and in bash, with stand-ins for Qubes' programs (`tests.support.qvmtools`);
a Qubes that takes what they were given must have the properties that went in.
"""

from __future__ import annotations

import itertools
import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from qbackup.base.names import display
from qbackup.cli.recreate.words import NoWord, Words, comment
from tests.conftest import MakerFactory
from tests.maker import Format3Maker, Settings, assemble, flip_byte
from tests.support import settingsdata, vectorfiles
from tests.support.alter import cut
from tests.support.commandline import Ended, Terminal, call, run
from tests.support.qvmtools import SHELLS, MadeQube, NewQubes, ScriptRun, run_script
from tests.support.speed import rows

R4 = vectorfiles.backup_path("settings-of-r4")
R3 = vectorfiles.backup_path("v3-settings")
KEY = {"QBACKUP_PASSPHRASE": settingsdata.PASSPHRASE}
NEVER_SET = ("installed_by_rpm",)


def script(backup: Path, *arguments: str, status: int = 0) -> Ended:
    ended = call("script", backup, *arguments, env=KEY)
    assert ended.status == status, ended.err
    return ended


def restored(folder: Path, *files: str) -> Path:
    """A folder that looks as a restore has left it."""
    for file in files:
        path = folder / "re stored" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"image")
    return folder / "re stored"


IMAGES = [f"{name}/private.img" for name in ("work", "dvm", "debian-12", "sys-vpn")]
ALL_FILES = [*IMAGES, "debian-12/root.img", "dvm/whitelisted-appmenus.list"]


def ran(
    backup: Path, folder: Path, *arguments: str, shell: str = "dash", **more: Any
) -> tuple[NewQubes, ScriptRun]:
    """Runs the script of a backup on an empty Qubes."""
    text = script(backup, *arguments).stdout
    where = restored(folder, *ALL_FILES, "sys-net/private.img", "fedora-23/private.img")
    result = run_script(text, folder, str(where), shell=shell, **more)
    return NewQubes(result.calls), result


def without(values: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if name not in names}


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestR4:
    def test_everything_comes_back(self, shell: str, tmp_path: Path) -> None:
        new, result = ran(R4, tmp_path, shell=shell)
        assert (result.status, result.err) == (0, "")
        work = new.qubes["work"]
        assert work.klass == "AppVM"
        assert work.properties == {
            "label": "red",
            "template": "debian-12",
            "netvm": "sys-vpn",
            **without(settingsdata.PROPERTIES, *NEVER_SET),
        }
        assert work.features == settingsdata.FEATURES
        assert work.tags == list(settingsdata.TAGS)
        assert work.rules == list(settingsdata.RULES)

    def test_every_qube_is_made_and_filled(self, shell: str, tmp_path: Path) -> None:
        new, _ = ran(R4, tmp_path, shell=shell)
        where = tmp_path / "re stored"
        assert list(new.qubes) == ["debian-12", "work", "dvm", "sys-vpn", "disp-mail"]
        assert new.qubes["debian-12"] == MadeQube(
            "TemplateVM",
            {"label": "black"},
            volumes={n: f"{where}/debian-12/{n}.img" for n in ("root", "private")},
        )
        assert new.qubes["dvm"] == MadeQube(
            "AppVM",
            {
                "label": "it's $(mine)",
                "template": "debian-12",
                "template_for_dispvms": "True",
            },
            volumes={"private": f"{where}/dvm/private.img"},
            menu=f"{where}/dvm/whitelisted-appmenus.list",
        )
        disposable = MadeQube("DispVM", {"label": "red", "template": "dvm"})
        assert new.qubes["disp-mail"] == disposable
        assert new.qubes["sys-vpn"].properties["netvm"] == ""

    def test_what_others_stand_on_comes_first(self, tmp_path: Path) -> None:
        _, result = ran(R4, tmp_path)
        calls = [" ".join(call) for call in result.calls]
        order = [
            "qvm-create --class=TemplateVM --label=black -- debian-12",
            "qvm-create --class=AppVM --label=it's $(mine) --template=debian-12 -- dvm",
            "qvm-prefs -- dvm template_for_dispvms True",
            "qvm-create --class=DispVM --label=red --template=dvm -- disp-mail",
            "qvm-prefs -- work provides_network True",
            "qvm-prefs -- work netvm sys-vpn",
            "qvm-firewall work del --rule-no 0",
            f"qvm-volume import work:private {tmp_path}/re stored/work/private.img",
        ]
        assert [calls.index(line) for line in order] == sorted(map(calls.index, order))

    @pytest.mark.slow
    def test_from_a_pipe_it_is_the_same(self) -> None:
        with R4.open("rb") as pipe:
            ended = run("script", "-", stdin=pipe, env=KEY)
        assert (ended.status, ended.stdout) == (0, script(R4).stdout)

    def test_devices_are_shown_and_not_assigned(self, tmp_path: Path) -> None:
        text = script(R4).out
        _, result = ran(R4, tmp_path)
        assert "qvm-device" not in {call[0] for call in result.calls}
        assert "# Device, not assigned: pci dom0:00_14.0, no-strict-reset=True." in text
        command = "qvm-device pci attach --persistent --option=no-strict-reset=True -- work"
        assert f"#     {command} dom0:00_14.0\n" in text
        assert "block sys-usb:sda1, ask-to-attach, 0781:5567:ABC:b08, read-only=yes" in text

    def test_what_is_left_out_is_said(self) -> None:
        text = script(R4).out
        assert "# Left out: installed_by_rpm = True" in text
        assert "# Left out: the tag created-by-dom0" in text
        assert "# This script does not make the guivm sys-gui" in text
        assert "# This script does not make the template fedora-40" in text
        assert "# The label it's $(mine) is not one that every Qubes has" in text


class TestR3:
    def test_everything_comes_back_in_the_words_of_r4(self, shell: str, tmp_path: Path) -> None:
        new, result = ran(R3, tmp_path, shell=shell)
        assert result.status == 0
        net = new.qubes["sys-net"]
        assert net.properties == {
            "label": "red",
            "template": "fedora-23",
            "netvm": "sys-deep",
            **settingsdata.R3_PROPERTIES,
        }
        assert net.features == settingsdata.R3_FEATURES
        assert net.rules == list(settingsdata.R3_RULES)
        assert net.volumes == {"private": f"{tmp_path}/re stored/sys-net/private.img"}

    def test_a_template_that_is_a_folder_gives_the_images_in_it(self, tmp_path: Path) -> None:
        new, _ = ran(R3, tmp_path, "fedora-23")
        where = f"{tmp_path}/re stored/fedora-23"
        assert new.qubes["fedora-23"].volumes == {"private": f"{where}/private.img"}

    def test_what_r4_has_no_word_for_is_said(self) -> None:
        text = script(R3).out
        assert "# Left out: dispvm_netvm = " in text
        assert "# Device, not assigned: pci dom0:00_1a.0, required, no-strict-reset=True." in text

    def test_what_python_did_not_write_is_a_loss(self, tmp_path: Path, tools: None) -> None:
        maker = Format3Maker(tmp_path / "maker")
        attributes = {"services": "{'a': __import__('os')}", "pcidevs": "['a'"}
        maker.add_qube(
            "work",
            files={"private.img": b"x"},
            settings=Settings(attributes={**attributes, "memory": "500"}),
        )
        ended = script(maker.write(tmp_path / "backup"), status=1)
        for part in attributes:
            assert f"qbackup: work: its {part} in qubes.xml can't be understood\n" in ended.err
        result = run_script(ended.stdout, tmp_path, str(restored(tmp_path, "work/private.img")))
        assert result.status == 1
        assert NewQubes(result.calls).qubes["work"].properties["memory"] == "500"


class TestNames:
    def test_a_qube_of_another_name_is_referred_to_by_it(self, tmp_path: Path) -> None:
        names = ["work=w2", "sys-vpn=net-2", "debian-12=deb", "dvm=d2", "disp-mail"]
        new, result = ran(R4, tmp_path, *names)
        assert (result.status, list(new.qubes)) == (0, ["deb", "w2", "net-2", "d2", "disp-mail"])
        properties = new.qubes["w2"].properties
        references = ("template", "netvm", "default_dispvm", "guivm")
        assert [properties[name] for name in references] == ["deb", "net-2", "d2", "sys-gui"]
        assert new.qubes["disp-mail"].properties["template"] == "d2"
        assert new.qubes["w2"].volumes["private"].endswith("/re stored/work/private.img")
        assert "# w2 (AppVM), work in the backup" in script(R4, *names).out

    def test_two_may_change_their_names(self, tmp_path: Path) -> None:
        new, _ = ran(R4, tmp_path, "work=dvm", "dvm=work")
        assert new.qubes["dvm"].properties["default_dispvm"] == "work"

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["nobody"], "there is no qube 'nobody'"),
            (["left-behind"], "known, but its files are not in this backup"),
            (["work=1st"], "no qube can be called '1st'"),
            (["work="], "no qube can be called ''"),
            (["work=a b"], "no qube can be called 'a b'"),
            (["work=-x"], "no qube can be called '-x'"),
            (["work=a\n"], "no qube can be called"),
            (["work=" + "a" * 32], "31 at most"),
            (["work=none"], "keeps this name for itself"),
            (["work=Domain-0"], "keeps this name for itself"),
            (["work=x-dm"], "keeps this name for itself"),
            (["work=a", "dvm=a"], "two qubes would be called 'a'"),
            (["work=dvm", "dvm"], "two qubes would be called 'dvm'"),
            (["work=a", "work=b"], "under two names"),
            (["work=left-behind"], "the name of another qube"),
            (["work=fedora-40"], "the name of another qube"),
        ],
    )
    def test_that_can_not_be_are_wrong_usage(self, arguments: list[str], says: str) -> None:
        ended = script(R4, *arguments, status=2)
        assert ended.stdout == b""
        assert says in ended.err

    def test_dom0_is_notes_only(self, tmp_path: Path, maker: MakerFactory) -> None:
        made = maker()
        home = tmp_path / "user"
        home.mkdir()
        made.add_home("user", home)
        backup = made.write(tmp_path / "backup")
        ended = script(backup)
        result = run_script(ended.stdout, tmp_path, str(restored(tmp_path, "dom0/user/file")))
        assert (result.status, result.calls) == (0, [])
        assert "# dom0 is not made" in ended.out
        assert "dom0 can't have another name" in script(backup, "dom0=x", status=2).err

    def test_that_qubes_would_refuse_are_left_out_and_named(
        self, tmp_path: Path, maker: MakerFactory
    ) -> None:
        made = maker()
        for name in ("a b", "../../etc", "x" * 32, "good"):
            made.add_qube(name, files={"private.img": b"x"})
        backup = made.write(tmp_path / "backup")
        ended = script(backup, status=1)
        assert "qbackup: a b: left out, no qube can have this name" in ended.err
        result = run_script(ended.stdout, tmp_path, str(restored(tmp_path, "good/private.img")))
        assert result.status == 1
        assert list(NewQubes(result.calls).qubes) == ["good"]
        other = script(backup, "a b=a-b", "../../etc=etc", status=1)
        result = run_script(other.stdout, tmp_path, str(restored(tmp_path, "a b/private.img")))
        new = NewQubes(result.calls).qubes
        assert new["a-b"].volumes["private"].endswith("/a b/private.img")
        assert new["etc"].volumes == {}


class TestFailures:
    def test_a_name_that_is_taken_is_left_alone(self, shell: str, tmp_path: Path) -> None:
        new, result = ran(R4, tmp_path, shell=shell, refused=[["qvm-create", "work"]])
        assert result.status == 1
        assert "LOST: qvm-create --class=AppVM" in result.err
        after = [call for call in result.calls if call[0] != "qvm-create"]
        assert not [call for call in after if "work" in call or "work:private" in call]
        assert "dvm" in new.qubes

    def test_one_step_that_fails_is_named_and_the_rest_is_done(
        self, shell: str, tmp_path: Path
    ) -> None:
        _, result = ran(R4, tmp_path, shell=shell, refused=[["qvm-prefs", "kernel"]])
        assert result.status == 1
        assert result.err == (
            "LOST: qvm-prefs -- work kernel  \n1 steps could not be done; each is named above.\n"
        )
        assert ["qvm-features", "--", "work", "service.cups", "1"] in result.calls

    @rows("step", [["del"], ["dsthost=192.168.0.0/16"], ["action=drop"]])
    def test_a_firewall_that_is_not_complete_cuts_the_qube_off(
        self, shell: str, step: list[str], tmp_path: Path
    ) -> None:
        _, result = ran(R4, tmp_path, shell=shell, refused=[["qvm-firewall", *step]])
        assert result.status == 1
        assert "LOST: the firewall of work is not what it was, so work gets no network" in (
            result.err
        )
        prefs = [call for call in result.calls if call[0] == "qvm-prefs" and "netvm" in call]
        mine = [call[-1] for call in prefs if call[2] == "work"]
        assert mine == ["sys-vpn", ""]

    @rows(("name", "value"), [("netvm", "sys-vpn"), ("default_dispvm", "dvm")])
    def test_a_network_that_can_not_be_had_is_none_and_not_the_default_one(
        self, shell: str, name: str, value: str, tmp_path: Path
    ) -> None:
        _, result = ran(R4, tmp_path, shell=shell, refused=[["qvm-prefs", name, value]])
        assert result.status == 1
        assert f"LOST: {name} of work can not be what it was, so it is none" in result.err
        mine = [call[2:] for call in result.calls if call[0] == "qvm-prefs" and name in call]
        assert [call for call in mine if call[0] == "work"] == [
            ["work", name, value],
            ["work", name, ""],
        ]

    @pytest.mark.parametrize("value", ["--", "a b", "$(touch stolen)", "7", "none"])
    def test_a_reference_that_can_be_no_qube_is_none(
        self, value: str, tmp_path: Path, maker: MakerFactory
    ) -> None:
        made = maker()
        made.add_qube("work", netvm=value, files={"private.img": b"x"})
        ended = script(made.write(tmp_path / "backup"), status=1)
        assert f"work: its netvm is {value}, which no qube can be called" in ended.err
        result = run_script(ended.stdout, tmp_path, str(restored(tmp_path, "work/private.img")))
        assert NewQubes(result.calls).qubes["work"].properties["netvm"] == ""

    def test_a_reference_to_dom0_is_taken_as_it_is(
        self, tmp_path: Path, maker: MakerFactory
    ) -> None:
        made = maker()
        settings = Settings(properties={"guivm": "dom0"})
        made.add_qube("work", files={"private.img": b"x"}, settings=settings)
        text = script(made.write(tmp_path / "backup")).out
        assert "try qvm-prefs -- work guivm dom0\n" in text
        assert "guivm dom0: it must be there" not in text

    def test_what_a_terminal_would_obey_is_not_in_messages(self, tmp_path: Path) -> None:
        _, result = ran(R4, tmp_path, refused=[["qvm-features"], ["qvm-tags"], ["qvm-prefs"]])
        assert result.err.replace("\n", "").isprintable()
        assert result.err.isascii()

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        result = run_script(script(R4).stdout, tmp_path, "nowhere")
        assert (result.status, result.calls) == (2, [])
        assert run_script(script(R4).stdout, tmp_path).status == 2

    def test_images_that_are_not_there_or_links(self, tmp_path: Path) -> None:
        where = restored(tmp_path, *ALL_FILES)
        (where / "work/private.img").unlink()
        (where / "dvm/private.img").unlink()
        (where / "dvm/private.img").symlink_to("/etc/passwd")
        result = run_script(script(R4).stdout, tmp_path, str(where))
        assert result.status == 1
        for name in ("work", "dvm"):
            assert f"LOST: {name}/private.img is not among the restored files" in result.err
        assert {n for n, q in NewQubes(result.calls).qubes.items() if not q.volumes} == {
            "work",
            "dvm",
            "disp-mail",
        }

    @pytest.mark.parametrize("where", [0.4, 0.7, 0.95])
    def test_a_script_that_was_cut_off_does_nothing(
        self, shell: str, where: float, tmp_path: Path
    ) -> None:
        text = script(R4).stdout
        part = text[: int(len(text) * where)]
        result = run_script(part, tmp_path, str(restored(tmp_path, *ALL_FILES)), shell=shell)
        assert result.calls == []
        assert result.status != 0


class TestTheFolder:
    @rows("name", ["a b", "it's $(x)", "-n", "new\nline\n", "b\\ack", "Żółw", "e\x1b[31m"])
    def test_is_taken_exactly(self, shell: str, name: str, tmp_path: Path) -> None:
        (tmp_path / name / "work").mkdir(parents=True)
        (tmp_path / name / "work/private.img").write_bytes(b"image")
        text = script(R4, "work", f"--restored={name}").stdout
        result = run_script(text, tmp_path, shell=shell)
        assert result.status == 0
        path = f"{'./' if name[0] == '-' else ''}{name}/work/private.img"
        assert NewQubes(result.calls).qubes["work"].volumes == {"private": path}

    def test_of_a_name_that_a_restore_keeps_for_itself(
        self, tmp_path: Path, maker: MakerFactory
    ) -> None:
        made = maker()
        for name in ("x.part", "qubes.xml"):
            made.add_qube(name, files={"private.img": name.encode()})
        backup = made.write(tmp_path / "backup")
        assert call("restore", backup, "-o", tmp_path / "out", env=KEY).status == 0
        text = script(backup, f"--restored={tmp_path / 'out'}").stdout
        result = run_script(text, tmp_path)
        assert (result.status, result.err) == (0, "")
        made_qubes = NewQubes(result.calls).qubes
        assert len(made_qubes) == 2
        for name, qube in made_qubes.items():
            assert Path(qube.volumes["private"]).read_text() == name

    def test_of_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        name = os.fsdecode(b"caf\xe9")
        ended = run("script", R4, "work", f"--restored={name}", env=KEY)
        assert "'caf\\0351'" in ended.out
        assert ended.stdout.decode("utf-8")


class TestDamage:
    def test_a_firewall_that_is_lost_cuts_the_qube_off(
        self, tmp_path: Path, maker: MakerFactory
    ) -> None:
        made = maker(compression_filter=None)
        made.add_qube(
            "work", netvm="sys-vpn", files={"private.img": b"x", "firewall.xml": b"<firewall/>"}
        )
        made.add_qube("other", files={"private.img": b"x", "firewall.xml": b"<firewall/>"})
        members = flip_byte(made.members(), "vm1/firewall.xml.000.enc", -40)
        backup = assemble(members, tmp_path / "backup")
        ended = script(backup, status=1)
        assert "qbackup: vm1/firewall.xml.000" in ended.err or "work/firewall.xml" in ended.err
        where = restored(tmp_path, "work/private.img", "other/private.img")
        result = run_script(ended.stdout, tmp_path, str(where))
        assert result.status == 1
        new = NewQubes(result.calls).qubes
        assert new["work"].properties["netvm"] == ""
        assert new["other"].rules == []

    def test_a_backup_that_was_cut_off_leaves_no_qube_open(self, tmp_path: Path) -> None:
        members = vectorfiles.load("settings-of-r4")["members"]
        backup = cut(R4, tmp_path / "backup", members[-1], 100)
        ended = script(backup, status=1)
        where = restored(tmp_path, *ALL_FILES)
        result = run_script(ended.stdout, tmp_path, str(where))
        new = NewQubes(result.calls).qubes
        assert new["work"].properties["netvm"] == "sys-vpn"
        assert new["dvm"].properties["netvm"] == ""

    def test_files_that_are_missing_are_named(self, tmp_path: Path, maker: MakerFactory) -> None:
        made = maker()
        made.add_qube("work", files={"notes.txt": b"x"})
        ended = script(made.write(tmp_path / "backup"), status=1)
        assert "qbackup: work: private.img is not in this backup" in ended.err
        result = run_script(ended.stdout, tmp_path, str(restored(tmp_path, "x")))
        assert (result.status, list(NewQubes(result.calls).qubes)) == (1, ["work"])

    def test_a_wrong_passphrase_writes_nothing(self) -> None:
        ended = call("script", R4, env={"QBACKUP_PASSPHRASE": "wrong"})
        assert (ended.status, ended.stdout) == (3, b"")

    def test_hostile_names_of_properties(self, tmp_path: Path, maker: MakerFactory) -> None:
        """`qvm-prefs` takes - for _ in a name: nothing that is left out comes in by that way."""
        made = maker(compression_filter=None)
        properties = {"installed-by-rpm": "True", "default-dispvm": "evil", "odd-name": "x"}
        made.add_qube("work", files={"private.img": b"x"}, settings=Settings(properties=properties))
        ended = script(made.write(tmp_path / "backup"), status=1)
        assert "work: the property installed-by-rpm is not spelled as Qubes does it" in ended.err
        result = run_script(ended.stdout, tmp_path, str(restored(tmp_path, "work/private.img")))
        names = {name.replace("-", "_") for name in NewQubes(result.calls).qubes["work"].properties}
        assert "odd_name" in names and not names & {"installed_by_rpm", "default_dispvm"}

    def test_hostile_classes_and_rules(self, tmp_path: Path, maker: MakerFactory) -> None:
        made = maker(compression_filter=None)
        rules = ({"action": "accept", "$(touch stolen)": "x"}, {"action": "accept"})
        files = {"private.img": b"x", "firewall.xml": settingsdata.firewall_xml(rules)}
        made.add_qube("work", files=files)
        made.add_qube("evil", klass="AppVM; touch stolen; VM", files=files)
        ended = script(made.write(tmp_path / "backup"), status=1)
        assert "evil: left out, its class is" in ended.err
        assert "work: a firewall rule has an option" in ended.err
        result = run_script(ended.stdout, tmp_path, str(restored(tmp_path, "work/private.img")))
        assert list(NewQubes(result.calls).qubes) == ["work"]
        assert NewQubes(result.calls).qubes["work"].properties["netvm"] == ""


class TestText:
    def test_a_terminal_gets_the_script_itself(self) -> None:
        with Terminal("script", R4, "-q", env=KEY) as terminal:
            assert terminal.finish().status == 0
            assert terminal.seen.replace("\r\n", "\n") == script(R4).out

    @pytest.mark.parametrize("backup", [R4, R3])
    def test_each_line_is_a_comment_or_begins_with_a_known_word(self, backup: Path) -> None:
        known = {"create", "try", "if", "fi", "lost", "import_image", "set_menu", "before=$failed"}
        known |= {":", "restored=$1", "case", "printf", "exit", "}", "main"}
        known |= {"refer"} | {f"v{number}=$(printf" for number in (1, 2)}
        lines = script(backup).out.split("main() {\n")[1].splitlines()
        words = {line.split()[0] for line in lines if line.strip() and line.lstrip()[0] != "#"}
        assert words <= known

    @hypothesis_settings(deadline=None, max_examples=40)
    @given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=30))
    def test_words_mean_what_they_stand_for(self, texts: list[str]) -> None:
        texts = [text.replace("\0", "") for text in texts]
        words = Words()
        line = " ".join(["printf '%s\\0'", *map(words.word, texts)])
        text = "\n".join([*words.lines, line]) if texts else ":"
        assert text.replace("\n", "").isprintable()
        for shell in SHELLS:
            ended = subprocess.run([shell], input=text.encode(), capture_output=True, check=True)
            assert ended.stdout.decode().split("\0")[:-1] == texts
            assert ended.stderr == b""

    def test_no_word_holds_a_nul(self) -> None:
        with pytest.raises(NoWord):
            Words().word("a\0b")

    @given(st.text())
    def test_comments_are_comments(self, text: str) -> None:
        for line in comment(text):
            assert line.startswith("#")
            assert len(line.splitlines()) == 1
            assert display(line).replace("\\\\", "\\") == line

    def test_words_that_a_screen_shows_are_quoted_by_shlex(self) -> None:
        for text in ("plain", "it's", "a b", "$(x)", "back\\slash", "Żółw", ""):
            assert Words().word(text) == shlex.quote(text)

    def test_a_value_that_ends_the_options_is_a_loss(
        self, tmp_path: Path, maker: MakerFactory
    ) -> None:
        made = maker()
        features = {"a": "--", "--": "b", "c": "d"}
        made.add_qube("w", files={"private.img": b"x"}, settings=Settings(features=features))
        ended = script(made.write(tmp_path / "backup"), status=1)
        assert ended.err.count("can't be given to a program as an argument") == 2
        result = run_script(ended.stdout, tmp_path, str(restored(tmp_path, "w/private.img")))
        assert NewQubes(result.calls).qubes["w"].features == {"c": "d"}

    def test_a_nul_in_an_old_service_is_a_loss(self, tmp_path: Path, tools: None) -> None:
        maker = Format3Maker(tmp_path / "maker")
        settings = Settings(attributes={"services": "{'a\\x00b': True, 'c': True}"})
        maker.add_qube("w", files={"private.img": b"x"}, settings=settings)
        ended = script(maker.write(tmp_path / "backup"), status=1)
        assert "the feature service.a\\x00b can't be given" in ended.err


def test_every_odd_text_is_in_the_vector() -> None:
    """The vector was made from the same values that the tests compare with."""
    document = call("list", R4, "--json", env=KEY).document
    work = document["qubes"][0]
    assert without(work["properties"], *without(work["properties"], *settingsdata.PROPERTIES)) == (
        settingsdata.PROPERTIES
    )
    assert len(list(itertools.chain(work["tags"]))) == len(settingsdata.TAGS) + 1
