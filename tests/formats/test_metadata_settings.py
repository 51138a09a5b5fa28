"""The setup of qubes: properties, features, tags, devices, services, firewall; and the qubes
that are known but not in the backup.
"""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import qbackup
from qbackup.base.errors import (
    AlreadyPassed,
    Damaged,
    LimitExceeded,
    QBackupError,
    UnsupportedFormat,
)
from qbackup.base.limits import Limits
from qbackup.crypto.kdf import Derivation
from qbackup.formats.metadata import Device, QubeSettings, parse_known_qubes
from qbackup.formats.metadata.firewall import parse_firewall
from qbackup.formats.metadata.literals import NotALiteral, parse_dict, parse_list
from tests.conftest import MakerFactory
from tests.maker import Format3Maker, Settings, assemble, drop, flip_byte
from tests.support import settingsdata, vectorfiles
from tests.support.alter import without
from tests.support.commandline import call, run
from tests.support.inside import inside

R4 = vectorfiles.backup_path("settings-of-r4")
R3 = vectorfiles.backup_path("v3-settings")
KEY = {"QBACKUP_PASSPHRASE": settingsdata.PASSPHRASE}
LIMITS = Limits()


def opened(path: Path) -> qbackup.BackupArchive:
    return qbackup.open(path, passphrase=settingsdata.PASSPHRASE)


def settings_of(inside: str, klass: str = "AppVM") -> QubeSettings:
    """Of one domain of R4, by what stands in its element."""
    label = '<label id="label-1" color="0xcc0000">red</label>'
    text = (
        f'<qubes><labels>{label}</labels><domains><domain id="domain-1" class="{klass}">{inside}'
        "</domain></domains></qubes>"
    )
    (known,) = parse_known_qubes(text.encode(), LIMITS)
    return known.settings


NAME = '<properties><property name="name">work</property></properties>'


class Pipe(io.BytesIO):
    """A file that can't be gone back in."""

    def seekable(self) -> bool:
        return False


class TestLibrary:
    def test_r4(self) -> None:
        with opened(R4) as archive:
            work = archive.qubes[0]
            properties = dict(work.properties)
            own = ("label", "name", "qid", "uuid", "template", "netvm")
            assert [properties.pop(name) for name in own][:3] == ["red", "work", "1"]
            assert properties == settingsdata.PROPERTIES
            assert work.features == settingsdata.FEATURES
            assert work.services == {"cups": "1", "network-manager": ""}
            assert work.tags == (*settingsdata.TAGS, "created-by-dom0")
            assert work.devices == (
                Device(
                    klass="pci",
                    backend="dom0",
                    ident="00_14.0",
                    options={"no-strict-reset": "True"},
                ),
                Device(
                    klass="block",
                    backend="sys-usb",
                    ident="sda1",
                    identity="0781:5567:ABC:b08",
                    mode="ask-to-attach",
                    options={"read-only": "yes", "odd '$(x)": "a\nb"},
                ),
                Device(klass="usb", backend="sys-usb", ident="1-2", mode="auto-attach"),
            )
            assert work.firewall == settingsdata.RULES
            assert archive.qubes[1].firewall is None

    def test_r3_in_the_words_of_r4(self) -> None:
        with opened(R3) as archive:
            net = archive.qubes[1]
            properties = dict(net.properties)
            for name in ("name", "qid", "uuid", "label"):
                properties.pop(name)
            assert properties == {
                "template": "fedora-23",
                **settingsdata.R3_PROPERTIES,
                "netvm": "sys-deep",
                "dispvm_netvm": "",
            }
            assert net.features == settingsdata.R3_FEATURES
            assert [(d.backend, d.ident, dict(d.options)) for d in net.devices] == [
                ("dom0", ident, {"no-strict-reset": "True"}) for ident in ("00_1a.0", "03_00.0")
            ]
            assert net.firewall == settingsdata.R3_RULES

    def test_qubes_that_are_not_in_the_backup(self) -> None:
        with opened(R4) as archive:
            qubes = archive.known_qubes
            assert [q.name for q in qubes if q.in_backup] == [q.name for q in archive.qubes]
            others = {q.name: q for q in qubes if not q.in_backup}
            assert set(others) == {"dom0", "left-behind", "fedora-40"}
            left = others["left-behind"]
            assert (left.tags, left.files, left.size) == (("t", "created-by-dom0"), (), None)
            assert (left.klass, left.template) == ("AppVM", "fedora-40")

    def test_qubes_of_r3_that_are_not_in_the_backup(self) -> None:
        with opened(R3) as archive:
            others = [q.name for q in archive.known_qubes if not q.in_backup]
        assert others == ["dom0", "sys-deep"]

    def test_all_firewalls_at_once_are_the_same(self) -> None:
        with opened(R4) as archive:
            assert archive.firewalls() == {"work": settingsdata.RULES}
            assert archive.firewalls(["dvm"]) == {}
        with R4.open("rb") as pipe, qbackup.open(pipe, passphrase=KEY["QBACKUP_PASSPHRASE"]) as a:
            assert a.firewalls() == {"work": settingsdata.RULES}

    def test_nothing_is_derived_for_settings_but_for_the_firewall(
        self, derivations: list[Derivation]
    ) -> None:
        with opened(R4) as archive:
            for qube in archive.known_qubes:
                _ = qube.properties, qube.features, qube.tags, qube.devices, qube.services
            before = len(derivations)
            assert before == 2  # the header and qubes.xml
            _ = archive.firewalls()
            assert len(derivations) == before + 1

    def test_a_pipe_that_went_by(self) -> None:
        with qbackup.open(Pipe(R4.read_bytes()), passphrase=settingsdata.PASSPHRASE) as archive:
            (work, *_) = archive.qubes
            inside(archive).catalog.drain()
            with pytest.raises(AlreadyPassed):
                _ = work.firewall

    def test_where_the_list_is_lost(self, tmp_path: Path) -> None:
        path = without(R4, tmp_path / "b", "qubes.xml.000.enc")
        with qbackup.open(path, passphrase=settingsdata.PASSPHRASE, salvage=True) as archive:
            assert archive.qubes
            assert {q.in_backup for q in archive.known_qubes} == {True}
            assert archive.qubes[0].properties == {}
            assert archive.firewalls()["vm1"] == settingsdata.RULES


class TestR4Documents:
    def test_texts_are_taken_exactly(self) -> None:
        text = '<properties><property name="name">w</property>'
        text += '<property name="a"> x\n</property><property name="b"/></properties>'
        assert settings_of(text).properties == {"name": "w", "a": " x\n", "b": ""}

    def test_a_label_by_its_number(self) -> None:
        text = '<properties><property name="name">w</property>'
        text += '<property name="label">label-1</property></properties>'
        assert settings_of(text).properties["label"] == "red"

    def test_services_of_the_first_releases(self) -> None:
        services = "<services><service>cups</service>"
        services += '<service enabled="false">ntpd</service></services>'
        found = settings_of(NAME + services)
        assert found.features == {"service.cups": "1", "service.ntpd": ""}

    @pytest.mark.parametrize(
        ("attributes", "mode", "identity"),
        [
            ('id="00_1.0" backend-domain="dom0"', "", ""),
            ('id="00_1.0" backend-domain="dom0" required="yes"', "required", ""),
            ('id="00_1.0" backend-domain="dom0" required="False"', "auto-attach", ""),
            ('id="00_1.0" backend-domain="dom0" mode="required" identity="0x1"', "required", "0x1"),
        ],
    )
    def test_devices_of_each_release(self, attributes: str, mode: str, identity: str) -> None:
        devices = f'<devices class="pci"><device {attributes}/></devices>'
        (device,) = settings_of(NAME + devices).devices
        assert (device.klass, device.backend, device.ident) == ("pci", "dom0", "00_1.0")
        assert (device.mode, device.identity) == (mode, identity)

    def test_devices_of_the_first_releases(self) -> None:
        (device,) = settings_of(
            NAME + '<devices class="pci"><device>00:1.0</device></devices>'
        ).devices
        assert (device.backend, device.ident) == ("", "00:1.0")

    def test_the_backup_s_own_notes_are_no_features(self) -> None:
        features = '<features><feature name="backup-content">1</feature>'
        features += '<feature name="backup-path">vm1/</feature>'
        features += '<feature name="a">b</feature></features>'
        assert settings_of(NAME + features).features == {"a": "b"}

    def test_of_two_of_one_name_that_in_the_backup_counts(self) -> None:
        domain = '<domain class="AppVM">{}<features>{}</features></domain>'
        inside = '<feature name="backup-content">1</feature><feature name="backup-path">v</feature>'
        both = domain.format(NAME, "") + domain.format(NAME, inside)
        text = f"<qubes><domains>{both}</domains></qubes>"
        (known,) = parse_known_qubes(text.encode(), LIMITS)
        assert known.in_backup

    def test_a_domain_without_a_name_is_nobody(self) -> None:
        text = '<qubes><domains><domain class="AppVM"/></domains></qubes>'
        assert parse_known_qubes(text.encode(), LIMITS) == ()

    def test_too_many(self) -> None:
        named = f"<domain>{NAME}</domain>"
        text = f"<qubes><domains>{named * 3}</domains></qubes>"
        with pytest.raises(LimitExceeded) as caught:
            parse_known_qubes(text.encode(), Limits(qubes=2))
        assert caught.value.limit == "qubes"


class TestLiterals:
    @given(
        st.dictionaries(
            st.text(st.characters(max_codepoint=126)),
            st.booleans() | st.text(st.characters(max_codepoint=126)),
        )
    )
    def test_dictionaries(self, values: dict[str, bool | str]) -> None:
        assert parse_dict(repr(values)) == values

    @given(st.lists(st.text(st.characters(max_codepoint=126))))
    def test_lists(self, values: list[str]) -> None:
        assert parse_list(repr(values)) == values

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("{}", {}),
            (" { 'a' : True , } ", {"a": True}),
            ("{u'n\\xe4me': 1}", {"näme": "1"}),
            ("{'n\\xc3\\xa4me': None}", {"näme": "None"}),
            ("{u'\\u017c\\U0001f511': True}", {"ż🔑": True}),
            ("{'\\xff': True}", {"\\xff": True}),
            ("{\"it's\": 'a\\'b'}", {"it's": "a'b"}),
        ],
    )
    def test_as_python_2_wrote_them(self, text: str, value: dict[str, object]) -> None:
        assert parse_dict(text) == value

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "}",
            "[]",
            "{'a'}",
            "{'a': }",
            "{'a': }}",
            "{'a': b}",
            "{'a': [1]}",
            "{'a': {}}",
            "{'a': True 'b': True}",
            "{True: 'a'}",
            "{'a': __import__('os')}",
            "{'a\n': True}",
            "{'a\\q': True}",
            "{u'\\ud800': True}",
            "{u'\\Uffffffff': True}",
            "{'a': True}x",
            "{'a': True",
            "{'a: True}",
            "{" * 100_000,
        ],
    )
    def test_nothing_else(self, text: str) -> None:
        with pytest.raises(NotALiteral):
            parse_dict(text)

    @pytest.mark.parametrize("text", ["", "[", "{}", "['a': 'b']", "[1]", "[['a']]", "[" * 100_000])
    def test_no_other_list(self, text: str) -> None:
        with pytest.raises(NotALiteral):
            parse_list(text)

    @given(st.text(st.sampled_from("{}[]'\"\\,: utxTrueFalse01\n")))
    def test_any_text_is_one_or_is_refused(self, text: str) -> None:
        for parse in (parse_dict, parse_list):
            try:
                parse(text)
            except NotALiteral:
                continue


class TestFirewallDocuments:
    def test_of_r4(self) -> None:
        assert parse_firewall(settingsdata.firewall_xml(), LIMITS) == settingsdata.RULES

    def test_of_r3(self) -> None:
        assert parse_firewall(settingsdata.R3_FIREWALL, LIMITS) == settingsdata.R3_RULES

    def test_of_r3_that_lets_through(self) -> None:
        text = b'<QubesFirewallRules policy="allow" icmp="deny"><rule address="fd00::"/>'
        assert parse_firewall(text + b"</QubesFirewallRules>", LIMITS) == (
            {"action": "accept", "specialtarget": "dns"},
            {"action": "drop", "proto": "icmp"},
            {"action": "drop", "dsthost": "fd00::/128"},
            {"action": "accept"},
        )

    @pytest.mark.parametrize(
        ("text", "error"),
        [
            (b"", Damaged),
            (b"text", Damaged),
            (b"<!DOCTYPE x><firewall/>", Damaged),
            (b'<firewall version="3"/>', UnsupportedFormat),
            (b"<qubes/>", UnsupportedFormat),
            (b"<QubesFirewallRules/>", Damaged),
            (b'<QubesFirewallRules policy="maybe"/>', Damaged),
            (b"<firewall><rules><rule><properties/></rule></rules></firewall>", Damaged),
        ],
    )
    def test_anything_else_is_an_error_with_its_name(
        self, text: bytes, error: type[QBackupError]
    ) -> None:
        with pytest.raises(error) as caught:
            parse_firewall(text, LIMITS, file="work/firewall.xml")
        assert caught.value.file == "work/firewall.xml"
        assert "qubes.xml" not in str(caught.value)

    def test_too_long(self) -> None:
        with pytest.raises(LimitExceeded, match=r"firewall\.xml is too long"):
            parse_firewall(b"<firewall/>", Limits(metadata=5))


class TestDamage:
    @pytest.mark.parametrize("how", ["flipped", "dropped"])
    def test_costs_that_qube_s_rules_only(
        self, how: str, tmp_path: Path, maker: MakerFactory
    ) -> None:
        made = maker(compression_filter=None, chunk_size=4096)
        rules = settingsdata.firewall_xml()
        for name in ("one", "two"):
            made.add_qube(name, files={"private.img": b"x", "firewall.xml": rules})
        name = "vm1/firewall.xml.001.enc"
        members = made.members()
        members = flip_byte(members, name, 400) if how == "flipped" else drop(members, name)
        backup = assemble(members, tmp_path / "backup")
        ended = call("list", backup, "--json", env=KEY)
        assert ended.status == 1
        one, two = ended.document["qubes"]
        assert one["firewall"] is None
        assert one["firewall_error"].startswith(("one/firewall.xml", "vm1/firewall.xml.001"))
        assert one["firewall_error"] in ended.document["error"]
        assert two["firewall"] == list(settingsdata.RULES)
        assert call("list", backup, env=KEY).status == 0
        with opened(backup) as archive, pytest.raises(Damaged):
            _ = archive.qubes[0].firewall

    def test_all_of_them_together_meet_a_limit(self, maker: MakerFactory, tmp_path: Path) -> None:
        made = maker()
        padding = b"<firewall><!--" + b"x" * 3000 + b"--></firewall>"
        for number in range(5):
            made.add_qube(f"q{number}", files={"private.img": b"x", "firewall.xml": padding})
        backup = made.write(tmp_path / "backup")
        limits = Limits(metadata=12_000)
        with qbackup.open(backup, passphrase=settingsdata.PASSPHRASE, limits=limits) as archive:
            found = archive.firewalls()
        errors = [rules for rules in found.values() if isinstance(rules, LimitExceeded)]
        assert [error.limit for error in errors] == ["metadata"] * 2
        assert list(found.values())[:3] == [(), (), ()]

    def test_one_that_is_too_long(self, maker: MakerFactory, tmp_path: Path) -> None:
        made = maker()
        made.add_qube("work", files={"private.img": b"x", "firewall.xml": b" " * 20_000})
        backup = made.write(tmp_path / "backup")
        limits = Limits(metadata=12_000)
        with qbackup.open(backup, passphrase=settingsdata.PASSPHRASE, limits=limits) as archive:
            found = archive.firewalls()["work"]
            assert isinstance(found, LimitExceeded)
            assert found.file == "work/firewall.xml"
            with pytest.raises(LimitExceeded):
                _ = archive.qubes[0].firewall


class TestCommand:
    def test_list_all(self) -> None:
        ended = call("list", R4, "--all", env=KEY)
        assert ended.status == 0
        lines = ended.out.splitlines()
        assert len(lines) == 9
        assert [line.split()[0] for line in lines if line.endswith("NOT IN THIS BACKUP")] == [
            "dom0",
            "left-behind",
            "fedora-40",
        ]
        assert "left-behind" not in call("list", R4, env=KEY).out

    def test_list_all_json(self) -> None:
        document = call("list", R4, "--all", "--json", env=KEY).document
        states = {qube["name"]: qube["in_backup"] for qube in document["qubes"]}
        assert [name for name, there in states.items() if not there] == [
            "dom0",
            "left-behind",
            "fedora-40",
        ]
        left = next(q for q in document["qubes"] if q["name"] == "left-behind")
        assert (left["files"], left["missing"], left["tags"]) == ([], [], ["t", "created-by-dom0"])

    def test_json_has_all_of_it(self) -> None:
        work = call("list", R4, "--json", env=KEY).document["qubes"][0]
        assert {n: work["properties"][n] for n in settingsdata.PROPERTIES} == (
            settingsdata.PROPERTIES
        )
        assert work["features"] == settingsdata.FEATURES
        assert work["services"] == {"cups": "1", "network-manager": ""}
        assert work["tags"] == [*settingsdata.TAGS, "created-by-dom0"]
        assert work["firewall"] == list(settingsdata.RULES)
        assert work["devices"][1] == {
            "class": "block",
            "backend": "sys-usb",
            "id": "sda1",
            "identity": "0781:5567:ABC:b08",
            "mode": "ask-to-attach",
            "options": {"read-only": "yes", "odd '$(x)": "a\nb"},
        }

    def test_json_of_r3(self) -> None:
        net = call("list", R3, "--json", env=KEY).document["qubes"][1]
        assert net["features"] == settingsdata.R3_FEATURES
        assert net["firewall"] == list(settingsdata.R3_RULES)
        assert "unreadable" not in net

    @pytest.mark.slow
    def test_a_pipe_gives_the_same(self) -> None:
        piped = run("list", "-", "--json", "--all", stdin=R4.read_bytes(), env=KEY)
        assert piped.document == call("list", R4, "--json", "--all", env=KEY).document

    def test_a_plain_list_derives_no_key_for_firewalls(self, derivations: list[Derivation]) -> None:
        call("list", R4, "--all", env=KEY)
        assert len(derivations) == 2
        call("list", R4, "--json", env=KEY)
        assert len(derivations) == 5

    def test_a_part_that_makes_no_sense_is_named(self, tmp_path: Path, tools: None) -> None:
        maker = Format3Maker(tmp_path / "maker")
        settings = Settings(attributes={"services": "nonsense"})
        maker.add_qube("work", files={"private.img": b"x"}, settings=settings)
        backup = maker.write(tmp_path / "backup")
        (work,) = call("list", backup, "--json", env=KEY).document["qubes"]
        assert work["unreadable"] == ["services"]
