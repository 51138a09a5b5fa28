"""``qubes.xml`` of Qubes R2 and R3, a `QubesVmCollection`, gives the same records as that of R4."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbackup.base.errors import Damaged, LimitExceeded
from qbackup.base.limits import Limits
from qbackup.formats.metadata import QubeRecord, QubeTable, parse_qubes_xml
from qbackup.restore.plan import Plan
from tests.maker import Format2Maker, Format3Maker

ADMIN = '<QubesAdminVm qid="0" name="dom0" backup_content="False"/>'
TEMPLATE = '<QubesTemplateVm qid="1" name="fedora" template_qid="none" backup_content="False"/>'


def parse(document: str | bytes, limits: Limits | None = None) -> tuple[QubeRecord, ...]:
    data = document.encode() if isinstance(document, str) else document
    return parse_qubes_xml(data, limits or Limits())


def qube(name: str | None = "work", *, tag: str = "QubesAppVm", **attributes: str | None) -> str:
    """One element as Qubes writes it; None leaves an attribute out."""
    said: dict[str, str | None] = {
        "name": name,
        "qid": "5",
        "label": "green",
        "template_qid": "1",
        "backup_content": "True",
        "backup_path": "vm5",
        "backup_size": "1234",
    }
    said |= attributes
    words = (f"{key}={quoteattr(value)}" for key, value in said.items() if value is not None)
    return f"<{tag} {' '.join(words)}/>"


def document(*elements: str, dom0: str = ADMIN) -> str:
    return (
        "<?xml version='1.0' encoding='UTF-8'?>\n"
        f'<QubesVmCollection default_netvm="3">{dom0}{TEMPLATE}{"".join(elements)}'
        "</QubesVmCollection>"
    )


def one(*, tag: str = "QubesAppVm", **attributes: str | None) -> QubeRecord:
    (record,) = parse(document(qube(tag=tag, **attributes)))
    return record


class TestRealDocuments:
    def test_say_everything_about_each_qube_in_the_backup(self, tmp_path: Path) -> None:
        maker = Format3Maker(tmp_path / "maker")
        maker.add_qube("work", qid=12, label="blue", netvm="sys-vpn", files={})
        maker.add_qube("fedora", qid=9, klass="TemplateVM", template=None, netvm="", files={})
        maker.add_qube("known", files={}, backup_content=False)
        home = tmp_path / "user"
        home.mkdir()
        maker.add_home("user", home)
        records = {record.name: record for record in parse(maker.default_qubes_xml())}
        assert list(records) == ["work", "fedora", "dom0"]
        work = records["work"]
        assert (work.klass, work.label, work.template) == ("AppVM", "blue", "fedora-20-x64")
        assert (work.netvm, work.backup_path, work.required) == (
            "sys-vpn",
            "vm12",
            ("private.img",),
        )
        assert work.size == 1 << 20
        fedora = records["fedora"]
        assert (fedora.klass, fedora.template, fedora.netvm) == ("TemplateVM", None, "")
        assert fedora.required == (".",)
        dom0 = records["dom0"]
        assert (dom0.klass, dom0.is_dom0, dom0.is_listed) == ("AdminVM", True, True)
        assert (dom0.backup_path, dom0.required) == ("dom0-home/user", ("user",))

    def test_that_are_not_encrypted_name_the_qubes_own_folders(self, tmp_path: Path) -> None:
        maker = Format3Maker(tmp_path / "maker", encrypted=False)
        maker.add_qube("work", files={})
        maker.add_qube("fedora", klass="TemplateVM", template=None, files={})
        maker.add_qube("net", klass="StandaloneVM", tag="QubesNetVm", files={})
        paths = [record.backup_path for record in parse(maker.default_qubes_xml())]
        assert paths == ["appvms/work", "vm-templates/fedora", "servicevms/net"]


class TestQubes:
    @pytest.mark.parametrize(
        ("tag", "template", "klass", "required"),
        [
            ("QubesAppVm", "1", "AppVM", ("private.img",)),
            ("QubesAppVm", "none", "StandaloneVM", ("private.img", "root.img")),
            ("QubesAppVm", "None", "StandaloneVM", ("private.img", "root.img")),
            ("QubesAppVm", None, "StandaloneVM", ("private.img", "root.img")),
            ("QubesHVm", "none", "StandaloneVM", ("private.img", "root.img")),
            ("QubesHVm", "1", "AppVM", ("private.img",)),
            ("QubesNetVm", "1", "AppVM", ("private.img",)),
            ("QubesProxyVm", "1", "AppVM", ("private.img",)),
            ("QubesProxyVm", "none", "StandaloneVM", ("private.img", "root.img")),
            ("QubesDisposableVm", "1", "DispVM", ("private.img",)),
            ("QubesTemplateVm", "none", "TemplateVM", (".",)),
            ("QubesTemplateHVm", "none", "TemplateVM", (".",)),
            ("QubesVmOfAPlugin", "1", "AppVM", ("private.img",)),
        ],
    )
    def test_have_the_class_that_r4_gives_them_and_the_files_that_were_written(
        self, tag: str, template: str | None, klass: str, required: tuple[str, ...]
    ) -> None:
        record = one(tag=tag, template_qid=template)
        assert (record.klass, record.required) == (klass, required)

    @pytest.mark.parametrize(
        ("qid", "name"), [("1", "fedora"), ("none", None), ("None", None), (None, None), ("7", "7")]
    )
    def test_a_template_is_named_by_its_qid(self, qid: str | None, name: str | None) -> None:
        assert one(template_qid=qid).template == name

    @pytest.mark.parametrize(
        ("default", "qid", "netvm"),
        [
            (None, None, None),
            (None, "1", None),
            ("True", "1", None),
            ("False", "1", "fedora"),
            ("False", "9", "9"),
            ("False", "none", ""),
            ("False", None, ""),
            ("true", "none", ""),
        ],
    )
    def test_the_default_netvm_is_none_and_no_netvm_is_empty(
        self, default: str | None, qid: str | None, netvm: str | None
    ) -> None:
        assert one(uses_default_netvm=default, netvm_qid=qid).netvm == netvm

    @pytest.mark.parametrize("default", [None, "True", "False"])
    def test_a_network_qube_has_no_network(self, default: str | None) -> None:
        assert one(tag="QubesNetVm", uses_default_netvm=default, netvm_qid="1").netvm == ""

    @pytest.mark.parametrize("content", [None, "", "true", "TRUE", "1", "False"])
    def test_only_true_means_that_it_is_there(self, content: str | None) -> None:
        assert parse(document(qube(backup_content=content))) == ()

    @pytest.mark.parametrize(("label", "expected"), [("red", "red"), (None, "")])
    def test_the_label_is_a_name(self, label: str | None, expected: str) -> None:
        assert one(label=label).label == expected

    @pytest.mark.parametrize(
        ("size", "bytes_"), [("7", 7), ("x", None), ("-1", None), (None, None)]
    )
    def test_the_size_is_an_estimate(self, size: str | None, bytes_: int | None) -> None:
        assert one(backup_size=size).size == bytes_


class TestDom0:
    def test_is_called_so_whatever_its_name(self) -> None:
        element = qube("other", tag="QubesAdminVm", qid="0", backup_path="dom0-home/first.last")
        (record,) = parse(document(dom0=element))
        assert (record.name, record.required) == ("dom0", ("first.last",))

    def test_that_r2_leaves_out_may_be_there_all_the_same(self, tmp_path: Path) -> None:
        maker = Format2Maker(tmp_path / "maker")
        maker.add_qube("work", files={})
        work, dom0 = parse(maker.default_qubes_xml())
        assert (work.is_listed, dom0.is_listed) == (True, False)
        assert (dom0.name, dom0.is_dom0, dom0.required) == ("dom0", True, ())

    def test_that_is_known_and_not_in_the_backup_is_not_there(self) -> None:
        (record,) = parse(document(qube()))
        assert record.name == "work"
        assert QubeTable((record,)).owner("dom0-home/user") is None

    @pytest.fixture
    def unlisted(self) -> QubeTable:
        return QubeTable(parse(document(qube(), dom0="")))

    @pytest.mark.parametrize(
        ("path", "owner"),
        [
            ("dom0-home/user", ("dom0", "user")),
            ("dom0-home/first.last", ("dom0", "first.last")),
            ("dom0-home/user/x", None),
            ("dom0-home", None),
            ("x/dom0-home/user", None),
            ("vm5/private.img", ("work", "private.img")),
        ],
    )
    def test_unlisted_owns_what_lies_in_its_folder(
        self, unlisted: QubeTable, path: str, owner: tuple[str, str] | None
    ) -> None:
        assert unlisted.owner(path) == owner
        if owner is not None:
            assert unlisted.path_of(*owner) == path

    @pytest.mark.parametrize(
        ("names", "missing"), [([], set()), (["dom0"], {"dom0"}), (["work"], set())]
    )
    def test_unlisted_is_missed_only_where_it_is_asked_for(
        self, unlisted: QubeTable, names: list[str], missing: set[str]
    ) -> None:
        plan = Plan(unlisted, names, None)
        assert {result.qube for result in plan.missing({("work", "private.img")})} == missing


class TestRefusedDocuments:
    @pytest.mark.parametrize(
        "element",
        [qube(None), qube(""), qube(backup_path=None), qube(backup_path=""), qube(backup_path="/")],
        ids=["no name", "empty name", "no path", "empty path", "root"],
    )
    def test_a_qube_without_name_or_path(self, element: str) -> None:
        with pytest.raises(Damaged, match="no name or no backup_path"):
            parse(document(element))

    def test_two_of_one_name_or_one_path(self) -> None:
        for other in (qube("work", backup_path="vm6"), qube("other", backup_path="vm5")):
            with pytest.raises(Damaged, match="two qubes share"):
                parse(document(qube(), other))

    def test_a_doctype(self) -> None:
        text = '<!DOCTYPE QubesVmCollection [<!ENTITY a "ha">]><QubesVmCollection/>'
        with pytest.raises(Damaged, match="DOCTYPE"):
            parse(text)

    def test_more_qubes_than_the_limit(self) -> None:
        text = document(*(qube(f"q{n}", backup_path=f"vm{n}") for n in range(4)))
        assert len(parse(text, Limits(qubes=6))) == 4
        with pytest.raises(LimitExceeded) as caught:
            parse(text, Limits(qubes=5))
        assert caught.value.limit == "qubes"

    def test_longer_than_the_limit(self) -> None:
        text = document(qube())
        with pytest.raises(LimitExceeded) as caught:
            parse(text, Limits(metadata=len(text) - 1))
        assert caught.value.limit == "metadata"

    @given(st.data())
    def test_changed_bytes_give_records_or_an_error_of_ours(self, data: st.DataObject) -> None:
        changed = bytearray(document(qube(), qube("other", backup_path="vm2"), dom0="").encode())
        for _ in range(data.draw(st.integers(1, 3))):
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
        try:
            records = parse(bytes(changed))
        except (Damaged, LimitExceeded):
            return
        assert all(record.name for record in records)
        assert all(record.backup_path for record in records if not record.is_dom0)
