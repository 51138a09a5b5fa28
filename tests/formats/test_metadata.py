"""``qubes.xml``: which qubes a backup holds, and which file belongs to whom."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbackup.base.errors import Damaged, LimitExceeded
from qbackup.base.limits import Limits
from qbackup.formats.metadata import QubeRecord, QubeTable, parse_qubes_xml
from tests.maker import BackupMaker
from tests.maker.qubesxml import LABELS, Domain, qubes_xml


def parse(document: str | bytes, limits: Limits | None = None) -> tuple[QubeRecord, ...]:
    data = document.encode() if isinstance(document, str) else document
    return parse_qubes_xml(data, limits or Limits())


def domain(
    name: str = "work",
    *,
    klass: str = "AppVM",
    content: str | None = "1",
    path: str | None = "vm1/",
    size: str | None = "1234",
    properties: str = "",
    volumes: str = '<volume name="private" save_on_stop="True"/>',
) -> str:
    """One domain as Qubes writes it; None leaves a part out."""
    features = [("backup-content", content), ("backup-path", path), ("backup-size", size)]
    lines = "".join(f'<feature name="{k}">{v}</feature>' for k, v in features if v is not None)
    named = f'<property name="name">{name}</property>' if name else ""
    return (
        f'<domain id="domain-1" class="{klass}"><properties>{named}{properties}</properties>'
        f"<features>{lines}</features><volume-config>{volumes}</volume-config></domain>"
    )


def document(
    *domains: str, labels: str = '<label id="label-1" color="0xcc0000">red</label>'
) -> str:
    return (
        '<?xml version="1.0"?>\n'
        f"<qubes><labels>{labels}</labels><domains>{''.join(domains)}</domains></qubes>"
    )


def one(**options: str | None) -> QubeRecord:
    (record,) = parse(document(domain(**options)))  # type: ignore[arg-type]
    return record


class TestRealDocuments:
    def test_say_everything_about_each_qube_in_the_backup(self, tmp_path: Path) -> None:
        maker = BackupMaker(tmp_path / "maker")
        maker.add_qube("work", qid=12, label="blue", netvm="sys-vpn", files={"private.img": b"x"})
        maker.add_qube(
            "fedora-40",
            klass="TemplateVM",
            label="black",
            template=None,
            netvm="",
            files={"root.img": b"r", "private.img": b"p"},
            volumes={"root": True, "private": True},
        )
        maker.add_qube("known", files={}, backup_content=False)
        home = tmp_path / "user"
        home.mkdir()
        maker.add_home("user", home)
        records = {record.name: record for record in parse(maker.default_qubes_xml())}
        assert list(records) == ["work", "fedora-40", "dom0"]
        work = records["work"]
        assert (work.klass, work.label, work.template) == ("AppVM", "blue", "fedora-40")
        assert (work.netvm, work.backup_path, work.required) == (
            "sys-vpn",
            "vm12",
            ("private.img",),
        )
        assert work.size == 4096 or work.size == 0  # what du says of one byte
        template = records["fedora-40"]
        assert (template.template, template.netvm) == (None, "")
        assert sorted(template.required) == ["private.img", "root.img"]
        dom0 = records["dom0"]
        assert (dom0.klass, dom0.is_dom0, dom0.label) == ("AdminVM", True, "black")
        assert (dom0.backup_path, dom0.required) == ("dom0-home/user", ("user",))
        assert not work.is_dom0

    def test_of_many_qubes_are_read(self) -> None:
        domains = [
            Domain(
                name=f"qube{n}",
                qid=n,
                klass="AppVM",
                label=list(LABELS)[n % 8],
                template="fedora-40",
                netvm=None,
                volumes={"private": True},
                backup_path=f"vm{n}/",
                backup_size=n,
            )
            for n in range(1, 301)
        ]
        records = parse(qubes_xml(domains))
        assert [(r.name, r.label, r.size) for r in records] == [
            (d.name, d.label, d.backup_size) for d in domains
        ]


class TestQubes:
    @pytest.mark.parametrize(
        ("properties", "label"),
        [
            ('<property name="label">red</property>', "red"),
            ('<property name="label">label-1</property>', "red"),
            ('<property name="label" ref="label-1"/>', "red"),
            ('<property name="label">1</property>', "red"),
            ('<property name="label"> label-1 </property>', "red"),
            ('<property name="label">label-99</property>', "label-99"),
            ("", ""),
        ],
    )
    def test_a_label_is_a_name_an_id_or_a_reference(self, properties: str, label: str) -> None:
        assert one(properties=properties).label == label

    @pytest.mark.parametrize(
        ("properties", "netvm"),
        [
            ("", None),
            ('<property name="netvm"/>', ""),
            ('<property name="netvm"></property>', ""),
            ('<property name="netvm">sys-firewall</property>', "sys-firewall"),
        ],
    )
    def test_no_netvm_is_the_default_one_and_an_empty_one_is_none(
        self, properties: str, netvm: str | None
    ) -> None:
        assert one(properties=properties).netvm == netvm

    @pytest.mark.parametrize(
        ("properties", "template"),
        [
            ("", None),
            ('<property name="template"/>', None),
            ('<property name="template">debian-12</property>', "debian-12"),
        ],
    )
    def test_a_template_is_named_or_there_is_none(
        self, properties: str, template: str | None
    ) -> None:
        assert one(properties=properties).template == template

    @pytest.mark.parametrize("path", ["vm1", "vm1/", "vm1//"])
    def test_a_backup_path_may_end_in_a_slash(self, path: str) -> None:
        assert one(path=path).backup_path == "vm1"

    @pytest.mark.parametrize("content", [None, ""])
    def test_that_are_not_in_the_backup_are_left_out(self, content: str | None) -> None:
        assert parse(document(domain(content=content))) == ()

    @pytest.mark.parametrize("content", ["1", "True", "yes"])
    def test_any_content_means_that_it_is_there(self, content: str) -> None:
        assert one(content=content).name == "work"

    @pytest.mark.parametrize(
        ("size", "bytes_"),
        [
            ("0", 0),
            ("1234", 1234),
            (None, None),
            ("", None),
            ("-1", None),
            ("1e9", None),
            ("٣", None),
            ("9" * 21, None),
            ("9" * 20, int("9" * 20)),
        ],
    )
    def test_the_size_is_an_estimate_and_may_be_nonsense(
        self, size: str | None, bytes_: int | None
    ) -> None:
        assert one(size=size).size == bytes_

    @pytest.mark.parametrize(
        ("volumes", "required"),
        [
            ("", ()),
            ('<volume name="private" save_on_stop="True"/>', ("private.img",)),
            ('<volume name="private" save_on_stop="False"/>', ()),
            ('<volume name="private" snap_on_start="True"/>', ()),
            ('<volume save_on_stop="True"/>', ()),
            (
                '<volume name="root" save_on_stop="True"/><volume name="volatile"/>'
                '<volume name="private" save_on_stop="True"/>',
                ("root.img", "private.img"),
            ),
        ],
    )
    def test_volumes_that_are_saved_must_be_there(
        self, volumes: str, required: tuple[str, ...]
    ) -> None:
        assert one(volumes=volumes).required == required

    def test_dom0_has_no_name_property_and_needs_its_home(self) -> None:
        record = one(name="", klass="AdminVM", path="dom0-home/first.last")
        assert (record.name, record.required) == ("dom0", ("first.last",))


class TestRefusedDocuments:
    @pytest.mark.parametrize(
        "domain_",
        [domain(name=""), domain(path=""), domain(path=None), domain(path="/")],
        ids=["no name", "empty path", "no path", "root"],
    )
    def test_a_qube_without_name_or_path(self, domain_: str) -> None:
        with pytest.raises(Damaged, match="no name or no backup-path"):
            parse(document(domain_))

    def test_two_of_one_name_or_one_path(self) -> None:
        for other in (domain("work", path="vm2"), domain("other", path="vm1")):
            with pytest.raises(Damaged, match="two qubes share"):
                parse(document(domain(), other))

    def test_a_doctype_with_or_without_entities(self) -> None:
        bomb = '<!DOCTYPE qubes [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><qubes>&b;</qubes>'
        outside = '<!DOCTYPE qubes [<!ENTITY a SYSTEM "file:///etc/passwd">]><qubes>&a;</qubes>'
        for text in ("<!DOCTYPE qubes><qubes/>", bomb, outside):
            for encoding in ("utf-8", "utf-16"):
                with pytest.raises(Damaged, match="DOCTYPE"):
                    parse(text.encode(encoding))

    def test_a_billion_laughs(self) -> None:
        names = "abcdefghij"
        entities = '<!ENTITY a "ha">' + "".join(
            f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in itertools.pairwise(names)
        )
        with pytest.raises(Damaged, match="DOCTYPE"):
            parse(f"<!DOCTYPE qubes [{entities}]><qubes>&j;</qubes>")

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"no xml",
            b"<qubes>",
            b"<qubes></qubes><qubes/>",
            b"<qubes>&undefined;</qubes>",
            b"<qubes>\0</qubes>",
            b"<qubes>\xff</qubes>",
            b"<?xml version='1.0' encoding='no-such-thing'?><qubes/>",
            b"<?xml version='1.0' encoding='utf-7'?><qubes/>",
        ],
    )
    def test_what_is_no_xml(self, data: bytes) -> None:
        with pytest.raises(Damaged, match="XML") as caught:
            parse(data)
        assert caught.value.file == "qubes.xml"

    def test_another_root(self) -> None:
        with pytest.raises(Damaged, match="<html>, neither <qubes> nor <QubesVmCollection>"):
            parse("<html/>")
        with pytest.raises(Damaged) as caught:
            parse(f"<a{'b' * 500}/>")
        assert len(str(caught.value)) < 200

    def test_longer_than_the_limit(self) -> None:
        text = document(domain())
        assert parse(text, Limits(metadata=max(len(text), 64 * 20)))
        with pytest.raises(LimitExceeded) as caught:
            parse(text, Limits(metadata=len(text) - 1))
        assert caught.value.limit == "metadata"

    @pytest.mark.slow
    @pytest.mark.parametrize("shape", ["flat", "deep", "attributes", "one tag", "one text"])
    def test_more_elements_than_memory_is_meant_for(self, shape: str) -> None:
        """A tree in memory takes far more than its text when its elements are tiny."""
        count = Limits().metadata // 16
        shapes = {
            "flat": "<qubes>" + "<a/>" * count + "</qubes>",
            "deep": "<a>" * count + "</a>" * count,
            "attributes": "<qubes>" + "<a b='' c='' d='' e=''/>" * (count // 4) + "</qubes>",
            "one tag": "<qubes " + " ".join(f"a{n}=''" for n in range(count // 2)) + "/>",
            "one text": "<qubes>" + "&#65;" * count + "</qubes>",
        }
        with pytest.raises(LimitExceeded) as caught:
            parse(shapes[shape])
        assert caught.value.limit == "metadata"

    @pytest.mark.slow
    def test_as_many_qubes_as_no_system_has_are_read(self) -> None:
        """Of 16 MiB of what Qubes writes the limit on elements takes little away."""
        volume = "<volume name='x' pool='vm-pool' vid='q/vm-x' size='1' rw='True' source='y'/>"
        one = domain("NAME", path="NAME").replace("<volume ", volume * 5 + "<volume ", 1)
        text = document(*(one.replace("NAME", f"q{n}") for n in range(6_000)))
        assert len(text) < Limits().metadata
        assert len(parse(text)) == 6_000

    def test_more_domains_than_the_limit(self) -> None:
        text = document(*(domain(f"q{n}", path=f"vm{n}") for n in range(4)))
        assert len(parse(text, Limits(qubes=4))) == 4
        with pytest.raises(LimitExceeded) as caught:
            parse(text, Limits(qubes=3))
        assert caught.value.limit == "qubes"

    @given(st.data())
    def test_changed_bytes_give_records_or_an_error_of_ours(self, data: st.DataObject) -> None:
        changed = bytearray(document(domain(), domain("other", path="vm2")).encode())
        for _ in range(data.draw(st.integers(1, 3))):
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
        try:
            records = parse(bytes(changed))
        except (Damaged, LimitExceeded):
            return
        assert all(record.name and record.backup_path for record in records)


class TestOwners:
    @pytest.fixture
    def table(self) -> QubeTable:
        """vm1, vm12, one below vm1, and dom0's home."""
        return QubeTable(
            parse(
                document(
                    domain("one", path="vm1"),
                    domain("twelve", path="vm12/"),
                    domain("nested", path="vm1/sub"),
                    domain("", klass="AdminVM", path="dom0-home/user"),
                )
            )
        )

    @pytest.mark.parametrize(
        ("path", "owner"),
        [
            ("vm1/private.img", ("one", "private.img")),
            ("vm12/private.img", ("twelve", "private.img")),
            ("vm1/apps/x", ("one", "apps/x")),
            ("vm1/sub/private.img", ("nested", "private.img")),
            ("dom0-home/user", ("dom0", "user")),
            ("dom0-home/user/x", None),
            ("dom0-home/other", None),
            ("vm123/private.img", None),
            ("vm1", None),
            ("qubes.xml", None),
        ],
    )
    def test_are_found_by_whole_components(
        self, table: QubeTable, path: str, owner: tuple[str, str] | None
    ) -> None:
        assert table.owner(path) == owner
        if owner is not None:
            assert table.path_of(*owner) == path

    def test_a_home_that_is_in_no_folder_has_a_path_too(self) -> None:
        table = QubeTable(parse(document(domain("", klass="AdminVM", path="user"))))
        assert table.owner("user") == ("dom0", "user")
        assert table.path_of("dom0", "user") == "user"

    def test_of_an_unknown_qube_there_is_no_path(self, table: QubeTable) -> None:
        assert table.path_of("three", "private.img") is None

    def test_without_qubes_xml_each_folder_stands_for_a_qube(self) -> None:
        table = QubeTable(None)
        assert table.owner("vm1/private.img") == ("vm1", "private.img")
        assert table.owner("dom0-home/user") == ("dom0", "user")
        assert table.owner("qubes.xml") is None
        assert table.path_of("vm1", "private.img") == "vm1/private.img"


class TestFoldersInPlaceOfQubes:
    """Where ``qubes.xml`` is lost; anybody can plant folders."""

    PATHS = ("a/x", "qubes.xml", "b/x", "a/y", "c/x", "d/x")

    @pytest.mark.parametrize(("limit", "names"), [(3, "abc"), (4, "abcd"), (9, "abcd")])
    def test_are_listed_up_to_a_limit(self, limit: int, names: str) -> None:
        table = QubeTable(None, self.PATHS, limit=limit)
        assert "".join(record.name for record in table.records) == names
        assert table.has_more_folders == (limit < 4)
        assert table.owner("d/x") == ("d", "x"), "restored all the same"

    def test_prove_no_file(self) -> None:
        table = QubeTable(None, ["a/private.img"])
        assert not table.is_named("a", "private.img")
        assert not table.is_usual("a", "private.img")
