"""Backups of formats 3 and 2 hold what was put in, by the published procedures for them and the
real programs alone.
"""

from __future__ import annotations

import io
import os
import random
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.make_vectors import make_home
from tests.maker import (
    FILTERS,
    HMAC_TEXTS,
    RELEASE_CANDIDATE,
    Format2Maker,
    Format3Maker,
    assemble,
    cut,
    flip_byte,
    get,
    make_sparse,
    published_procedure_2,
    published_procedure_3,
    swap,
)
from tests.maker.procedure import chunks_of
from tests.support.speed import rows
from tests.support.vectorfiles import describe_tree

MIB = 1 << 20
SECRET = "correct horse battery staple"

Make3 = Callable[..., Format3Maker]
Make2 = Callable[..., Format2Maker]


@pytest.fixture
def maker3(tools: None, tmp_path: Path) -> Make3:
    return lambda **options: Format3Maker(tmp_path / "maker-3", **options)


@pytest.fixture
def maker2(tools: None, tmp_path: Path) -> Make2:
    return lambda **options: Format2Maker(tmp_path / "maker-2", **options)


def sparse_image(path: Path) -> Path:
    """An image whose data don't fall on whole file system blocks, and whose length is no multiple
    of 512.
    """
    data = {0: b"start", MIB + 3 * 512: os.urandom(512), 2 * MIB - 100: b"x" * 50_000}
    return make_sparse(path, 5 * MIB + 77, data)


def stored_names(backup: Path) -> list[str]:
    with tarfile.open(backup, ignore_zeros=True) as archive:
        return archive.getnames()


class TestFormat3:
    @rows("compression_filter", [*FILTERS, None])
    @rows("encrypted", [True, False], ids=["encrypted", "plain"])
    def test_every_filter_gives_the_image_back(
        self, maker3: Make3, tmp_path: Path, compression_filter: str | None, encrypted: bool
    ) -> None:
        image = sparse_image(tmp_path / "image")
        backup = maker3(
            compression_filter=compression_filter, encrypted=encrypted, chunk_size=20_000
        )
        backup.add_qube("work", files={"private.img": image})
        path = backup.write(tmp_path / "backup")
        restored, document = (
            published_procedure_3(
                path,
                SECRET,
                stored_name,
                tmp_path / "out",
                compression_filter,
                cipher="aes-256-cbc" if encrypted else None,
            )
            for stored_name in (f"{backup.qubes[0].subdir}private.img", "qubes.xml")
        )
        assert restored.read_bytes() == image.read_bytes()
        assert document.read_bytes() == backup.default_qubes_xml()

    @rows("compression_filter", FILTERS, quick=3)
    def test_tar_fills_the_compressed_stream_up_with_zeros(
        self, maker3: Make3, tmp_path: Path, compression_filter: str
    ) -> None:
        backup = maker3(compression_filter=compression_filter, encrypted=False)
        noise = random.Random(1).randbytes(20_000)  # other noise can happen to fill a record
        backup.add_qube("work", files={"private.img": noise})
        again = Format3Maker(
            tmp_path / "again",
            compression_filter=compression_filter,
            encrypted=False,
            named_pipe=False,
        )
        again.add_qube("work", files={"private.img": b""})
        for member in backup.members():
            if member.name.endswith(".000"):
                stored = member.path.read_bytes()
                assert len(stored) % 10_240 == 0 and stored.endswith(bytes(16))
        for member in again.members():
            if member.name.endswith(".000"):
                assert len(member.path.read_bytes()) < 1000

    @rows("cipher", ["aes-128-cbc", "aes-192-cbc", "des-ede3-cbc", "camellia-256-cbc"])
    def test_other_ciphers(self, maker3: Make3, tmp_path: Path, cipher: str) -> None:
        backup = maker3(cipher=cipher, chunk_size=1000)
        backup.add_qube("work", files={"private.img": os.urandom(5000)})
        path = backup.write(tmp_path / "backup")
        published_procedure_3(path, SECRET, "vm1/private.img", tmp_path / "out", cipher=cipher)

    @pytest.mark.parametrize("digest", ["SHA512", "sha256", "SHA1", "ripemd160", "MD5"])
    def test_other_digests(self, maker3: Make3, tmp_path: Path, digest: str) -> None:
        backup = maker3(digest=digest)
        backup.add_qube("work", files={"private.img": b"content"})
        path = backup.write(tmp_path / "backup")
        published_procedure_3(path, SECRET, "vm1/private.img", tmp_path / "out", digest=digest)
        with pytest.raises(RuntimeError, match="HMAC differs"):
            published_procedure_3(
                path, SECRET, "vm1/private.img", tmp_path / "other", digest="sha384"
            )

    @pytest.mark.parametrize("text", [*HMAC_TEXTS.values(), None])
    def test_every_spelling_of_the_hmac_is_the_same_code(
        self, maker3: Make3, tmp_path: Path, text: str | None
    ) -> None:
        backup = maker3(hmac_text=text)
        backup.add_qube("work", files={"private.img": b"content"})
        path = backup.write(tmp_path / "backup")
        published_procedure_3(path, SECRET, "vm1/private.img", tmp_path / "out")
        said = get(backup.members(), "vm1/private.img.000.hmac").path.read_text()
        assert said.count("(stdin)= ") == 1
        assert said.endswith("\n")

    def test_the_header_is_as_the_published_page_shows_it(self, maker3: Make3) -> None:
        backup = maker3()
        assert backup.header == (
            b"version=3\nhmac-algorithm=SHA512\ncrypto-algorithm=aes-256-cbc\n"
            b"encrypted=True\ncompressed=True\ncompression-filter=gzip\n"
        )

    def test_members_come_in_pairs_and_in_the_order_of_the_writer(
        self, maker3: Make3, tmp_path: Path
    ) -> None:
        backup = maker3(chunk_size=12_000, empty_chunk_after=["vm7/firewall.xml"])
        backup.add_qube("work", qid=7, files={"private.img": os.urandom(2000), "firewall.xml": b""})
        path = backup.write(tmp_path / "backup")
        names = stored_names(path)
        assert names == [member.name for member in backup.members()]
        assert names[1::2] == [f"{name}.hmac" for name in names[::2]]
        assert [name for name in names[::2] if not name.startswith("qubes.xml")] == [
            "backup-header",
            "vm7/private.img.000",
            "vm7/firewall.xml.000",
            "vm7/firewall.xml.001",
        ]
        assert get(backup.members(), "vm7/firewall.xml.001").path.read_bytes() == b""
        published_procedure_3(path, SECRET, "vm7/firewall.xml", tmp_path / "out")

    def test_only_the_first_chunk_has_a_salt(self, maker3: Make3, tmp_path: Path) -> None:
        backup = maker3(chunk_size=4096, compression_filter=None)
        backup.add_qube("work", files={"private.img": os.urandom(20_000)})
        backup.write(tmp_path / "backup")
        chunks = [m for m in backup.members() if m.name.startswith("vm1/") and m.name[-1].isdigit()]
        assert len(chunks) > 5
        salted = [member.path.read_bytes().startswith(b"Salted__") for member in chunks]
        assert salted == [True] + [False] * (len(chunks) - 1)

    def test_a_template_is_one_folder(self, maker3: Make3, tmp_path: Path) -> None:
        folder = make_template(tmp_path / "template")
        backup = maker3(dereference=False)
        backup.add_qube("fedora", qid=9, klass="TemplateVM", template=None, files={".": folder})
        path = backup.write(tmp_path / "backup")
        assert "vm9/..000" in stored_names(path)
        restored = published_procedure_3(path, SECRET, "vm9/.", tmp_path / "out")
        assert (restored / "root.img").read_bytes() == (folder / "root.img").read_bytes()
        assert os.readlink(restored / "icon.png") == "vm9//usr/share/icons/gray.png"
        assert os.readlink(restored / "apps/link") == "vm9/a.desktop"

    def test_a_template_with_links_that_are_followed(self, maker3: Make3, tmp_path: Path) -> None:
        folder = make_template(tmp_path / "template")
        (folder / "icon.png").unlink()
        (folder / "icon.png").symlink_to(folder / "root.img")
        backup = maker3()
        backup.add_qube("fedora", qid=9, klass="TemplateVM", template=None, files={".": folder})
        path = backup.write(tmp_path / "backup")
        restored = published_procedure_3(path, SECRET, "vm9/.", tmp_path / "out")
        assert not (restored / "icon.png").is_symlink()
        assert (restored / "icon.png").read_bytes() == (folder / "root.img").read_bytes()

    @rows("name", ["apps", "apps.templates", "kernels"])
    @rows("dereference", [True, False])
    def test_other_folders(
        self, maker3: Make3, tmp_path: Path, name: str, dereference: bool
    ) -> None:
        folder = tmp_path / "some-folder"
        folder.mkdir()
        (folder / "a.desktop").write_bytes(b"a")
        backup = maker3(dereference=dereference)
        backup.add_qube("alone", klass="StandaloneVM", template=None, files={name: folder})
        path = backup.write(tmp_path / "backup")
        restored = published_procedure_3(path, SECRET, f"vm1/{name}", tmp_path / "out")
        assert describe_tree(restored)[1:] == describe_tree(folder)[1:]

    @pytest.mark.parametrize("rewrite_links", [True, False])
    def test_dom0_home(self, maker3: Make3, tmp_path: Path, rewrite_links: bool) -> None:
        home = make_home(tmp_path / "jo.doe")
        backup = maker3(rewrite_links=rewrite_links)
        backup.add_home("jo.doe", home)
        path = backup.write(tmp_path / "backup")
        restored = published_procedure_3(path, SECRET, "dom0-home/jo.doe", tmp_path / "out")
        assert set(differing(describe_tree(restored), describe_tree(home))) == (
            {"rewritten"} if rewrite_links else set()
        )

    def test_an_image_can_be_a_bare_symbolic_link(self, maker3: Make3, tmp_path: Path) -> None:
        link = tmp_path / "link"
        link.symlink_to("/dev/vg/root")
        backup = maker3(dereference=False)
        backup.add_qube("alone", klass="StandaloneVM", template=None, files={"root.img": link})
        path = backup.write(tmp_path / "backup")
        restored = published_procedure_3(path, SECRET, "vm1/root.img", tmp_path / "out")
        assert os.readlink(restored) == "/dev/vg/root"

    def test_damage_is_seen(self, maker3: Make3, tmp_path: Path) -> None:
        backup = maker3()
        backup.add_qube("work", files={"private.img": b"content", "firewall.xml": b"rules"})
        for number, damaged in enumerate(
            (
                flip_byte(backup.members(), "vm1/private.img.000", 40),
                cut(backup.members(), "vm1/private.img.000", -16),
                swap(backup.members(), "vm1/private.img.000", "vm1/firewall.xml.000"),
            )
        ):
            path = assemble(damaged, tmp_path / "damaged")
            with pytest.raises(RuntimeError, match="HMAC differs"):
                published_procedure_3(path, SECRET, "vm1/private.img", tmp_path / f"out{number}")


class TestFormat2:
    @rows(
        "options",
        [
            {"compression_filter": "gzip"},
            {"compression_filter": "bzip2"},
            {},
            {"zlib_around": True},
            {"compression_filter": "gzip", "encrypted": False},
            {"encrypted": False},
        ],
    )
    @rows("tape_length", [20, 100_000], ids=["volumes", "volume"])
    @rows("header", [None, RELEASE_CANDIDATE], ids=["beta", "candidate"])
    def test_give_the_image_back(
        self,
        maker2: Make2,
        tmp_path: Path,
        options: dict[str, Any],
        tape_length: int,
        header: str | None,
    ) -> None:
        image = sparse_image(tmp_path / "image")
        backup = maker2(**options, tape_length=tape_length, header=header)
        backup.add_qube("work", files={"private.img": image})
        path = backup.write(tmp_path / "backup")
        assert (stored_names(path)[0] == "backup-header") == (header is not None)
        restored, document = (
            published_procedure_2(
                path,
                SECRET,
                stored_name,
                tmp_path / "out",
                options.get("compression_filter"),
                cipher="aes-256-cbc" if backup.encrypted else None,
                zlib_around=backup.zlib_around,
            )
            for stored_name in (f"{backup.qubes[0].subdir}private.img", "qubes.xml")
        )
        assert restored.read_bytes() == image.read_bytes()
        assert document.read_bytes() == backup.default_qubes_xml()
        chunks = [n for n in stored_names(path) if "private.img" in n and n[-1].isdigit()]
        assert len(chunks) == (4 if tape_length == 20 else 1)

    def test_a_candidates_header_has_no_version(self, maker2: Make2) -> None:
        assert maker2(header=RELEASE_CANDIDATE).header == (
            b"hmac-algorithm=SHA1\ncrypto-algorithm=aes-256-cbc\nencrypted=True\ncompressed=False\n"
        )

    def test_each_chunk_is_a_volume_with_its_own_salt(self, maker2: Make2, tmp_path: Path) -> None:
        backup = maker2(tape_length=20)
        backup.add_qube("work", files={"private.img": os.urandom(90_000)})
        backup.write(tmp_path / "backup")
        chunks = [m for m in backup.members() if m.name.startswith("vm1/") and m.name[-1].isdigit()]
        assert len(chunks) == 5
        heads = {member.path.read_bytes()[:16] for member in chunks}
        assert len(heads) == 5
        assert all(head.startswith(b"Salted__") for head in heads)

    def test_zlib_stands_around_the_salt(self, maker2: Make2, tmp_path: Path) -> None:
        backup = maker2(zlib_around=True)
        backup.add_qube("work", files={"private.img": b"content"})
        backup.write(tmp_path / "backup")
        stored = get(backup.members(), "vm1/private.img.000").path.read_bytes()
        assert zlib.decompress(stored).startswith(b"Salted__")

    def test_a_volume_begins_inside_or_between_members(self, maker2: Make2, tmp_path: Path) -> None:
        """Type M where the cut falls inside a member, its own type where it falls between two."""
        folder = tmp_path / "apps"
        folder.mkdir()
        for number in range(50):
            (folder / f"link-{number}").symlink_to("target")
        (folder / "file").write_bytes(os.urandom(30_000))
        backup = maker2(encrypted=False, tape_length=10)
        volumes = [path.read_bytes() for path in backup.volumes(folder, "vm1/", "apps")]
        types = {volume[156:157] for volume in volumes[1:]}
        assert types == {b"M", b"2"}

    def test_without_m_headers_the_volumes_are_one_archive(
        self, maker2: Make2, tmp_path: Path
    ) -> None:
        image = sparse_image(tmp_path / "private.img")
        backup = maker2(encrypted=False, tape_length=20)
        volumes = [path.read_bytes() for path in backup.volumes(image, "vm1/", "private.img")]
        joined = b"".join(v[512:] if v[156:157] == b"M" else v for v in volumes)
        with tarfile.open(fileobj=io.BytesIO(joined)) as archive:
            (member,) = archive.getmembers()
            content = archive.extractfile(member)
            assert content is not None
            assert content.read() == image.read_bytes()

    def test_a_template_is_one_folder(self, maker2: Make2, tmp_path: Path) -> None:
        folder = make_template(tmp_path / "template")
        backup = maker2(tape_length=20)
        backup.add_qube("fedora", qid=9, klass="TemplateVM", template=None, files={".": folder})
        path = backup.write(tmp_path / "backup")
        restored = published_procedure_2(path, SECRET, "vm9/.", tmp_path / "out")
        assert (restored / "root.img").read_bytes() == (folder / "root.img").read_bytes()
        assert os.readlink(restored / "icon.png") == "/usr/share/icons/gray.png"
        assert os.readlink(restored / "apps/link") == "vm9/a.desktop"

    def test_dom0_home_with_every_relative_link_rewritten(
        self, maker2: Make2, tmp_path: Path
    ) -> None:
        home = make_home(tmp_path / "jo.doe")
        backup = maker2(tape_length=20)
        backup.add_home("jo.doe", home)
        path = backup.write(tmp_path / "backup")
        restored = published_procedure_2(path, SECRET, "dom0-home/jo.doe", tmp_path / "out")
        assert set(differing(describe_tree(restored), describe_tree(home))) == {
            "relative",
            "upwards",
            "dangling",
            "rewritten",
            "long-target",
            "hard-link-of-symlink",
        }

    def test_chunks_are_checked_one_by_one(self, maker2: Make2, tmp_path: Path) -> None:
        backup = maker2(tape_length=20)
        backup.add_qube("work", files={"private.img": os.urandom(90_000)})
        damaged = flip_byte(backup.members(), "vm1/private.img.003", 40)
        path = assemble(damaged, tmp_path / "damaged")
        with pytest.raises(RuntimeError, match=r"private.img.003: the HMAC differs"):
            published_procedure_2(path, SECRET, "vm1/private.img", tmp_path / "out")


class TestQubesXml:
    def test_of_r2_knows_no_dom0(self, maker2: Make2, maker3: Make3) -> None:
        assert b"QubesAdminVm" not in maker2().default_qubes_xml()
        assert b"QubesAdminVm" in maker3().default_qubes_xml()

    def test_knows_every_qube_that_is_named(self, maker3: Make3) -> None:
        backup = maker3()
        backup.add_qube("work", netvm="sys-firewall", files={})
        document = backup.default_qubes_xml()
        for name in (b"work", b"sys-firewall", b"fedora-20-x64"):
            assert document.count(b' name="%s"' % name) == 1


def test_chunks_past_a_thousand_are_taken_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = ["f.1000", "f.002", "f.999", "f.g.000", "f.002.hmac", "..000", "..001"]
    for name in names:
        (tmp_path / name).touch()
    assert [chunk.name for chunk in chunks_of(tmp_path, "f", "")] == ["f.002", "f.999", "f.1000"]
    assert [chunk.name for chunk in chunks_of(tmp_path, ".", "")] == ["..000", "..001"]


def make_template(folder: Path) -> Path:
    """A template's own folder: images, menus and symbolic links."""
    (folder / "apps").mkdir(parents=True)
    (folder / "apps/a.desktop").write_bytes(b"[Desktop Entry]\n")
    (folder / "apps/link").symlink_to("a.desktop")
    make_sparse(folder / "root.img", 2 * MIB, {MIB: b"root" * 20_000})
    make_sparse(folder / "private.img", MIB, {})
    (folder / "icon.png").symlink_to("/usr/share/icons/gray.png")
    return folder


def differing(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> list[str]:
    """Paths of entries that differ."""
    assert [entry["path"] for entry in found] == [entry["path"] for entry in expected]
    pairs = zip(found, expected, strict=True)
    return [entry["path"] for entry, other in pairs if entry != other]
