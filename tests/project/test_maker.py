"""The maker's backups hold what was put in, by the published procedure and the real programs
alone.
"""

from __future__ import annotations

import bz2
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakerFactory
from tests.make_vectors import make_home
from tests.maker import (
    FILTERS,
    Member,
    append_bytes,
    assemble,
    cut,
    drop,
    extend,
    flip_byte,
    forged_archive,
    get,
    inner_tar,
    make_ext4,
    make_sparse,
    outer_member,
    published_header,
    published_procedure,
    published_procedure_2,
    published_procedure_3,
    qubes_tarwriter,
    rename,
    replace,
    run,
    scrypt_encrypt,
    sparse_map,
    split_chunks,
    swap,
    truncate,
)
from tests.maker.procedure import encrypted_chunks
from tests.maker.tarwriter import sparse_header
from tests.support import vectorfiles
from tests.support.speed import rows

MIB = 1 << 20
SECRET = "correct horse battery staple"


def stored_names(backup: Path) -> list[str]:
    """Names in the outer archive, as the standard library reads it."""
    with tarfile.open(backup, ignore_zeros=True) as archive:
        return archive.getnames()


def sparse_image(path: Path) -> Path:
    """An image whose data don't fall on whole file system blocks, and whose length is no multiple
    of 512.
    """
    data = {0: b"start", MIB + 3 * 512: os.urandom(512), 2 * MIB - 100: b"x" * 5000}
    return make_sparse(path, 5 * MIB + 77, data)


class TestWholeBackups:
    @rows("compression_filter", [*FILTERS, None])
    @rows("qubes_writer", [[], ["private.img"]], ids=["gnu", "qubes"])
    def test_every_filter_and_both_writers_give_the_image_back(
        self,
        maker: MakerFactory,
        tmp_path: Path,
        compression_filter: str | None,
        qubes_writer: list[str],
    ) -> None:
        image = sparse_image(tmp_path / "image")
        backup = maker(compression_filter=compression_filter)
        backup.add_qube("work", files={"private.img": image}, qubes_writer=qubes_writer)
        path = backup.write(tmp_path / "backup")
        restored = published_procedure(
            path, SECRET, "vm1/private.img", tmp_path / "out", compression_filter
        )
        assert restored.read_bytes() == image.read_bytes()
        document = published_procedure(
            path, SECRET, "qubes.xml", tmp_path / "out", compression_filter
        )
        assert document.read_bytes() == backup.default_qubes_xml()

    @pytest.mark.parametrize("size", [0, 2 * MIB, 2 * MIB + 1])
    @pytest.mark.parametrize("qubes_writer", [[], ["private.img"]], ids=["gnu", "qubes"])
    def test_empty_and_all_zero_images(
        self, maker: MakerFactory, tmp_path: Path, size: int, qubes_writer: list[str]
    ) -> None:
        image = make_sparse(tmp_path / "image", size, {})
        backup = maker()
        backup.add_qube("work", files={"private.img": image}, qubes_writer=qubes_writer)
        path = backup.write(tmp_path / "backup")
        restored = published_procedure(path, SECRET, "vm1/private.img", tmp_path / "out")
        assert restored.read_bytes() == bytes(size)

    def test_members_come_in_the_order_of_the_writer(
        self, maker: MakerFactory, tmp_path: Path
    ) -> None:
        home = tmp_path / "user"
        home.mkdir()
        backup = maker(chunk_size=100)
        backup.add_qube("work", qid=7, files={"private.img": os.urandom(150), "notes.txt": b"n"})
        backup.add_home("user", home)
        path = backup.write(tmp_path / "backup")
        names = stored_names(path)
        assert names == [member.name for member in backup.members()]
        files = [name.removesuffix(".enc").rpartition(".")[0] for name in names[2:]]
        assert list(dict.fromkeys(files)) == [
            "qubes.xml",
            "vm7/private.img",
            "vm7/notes.txt",
            "dom0-home/user",
        ]
        assert names[:3] == ["backup-header", "backup-header.hmac", "qubes.xml.000.enc"]

    def test_chunks_past_a_thousand_are_taken_in_the_order_of_their_numbers(
        self, tmp_path: Path
    ) -> None:
        for name in ("f.1000.enc", "f.002.enc", "f.999.enc", "f.g.000.enc", "f.1001.enc"):
            (tmp_path / name).touch()
        chunks = [chunk.name for chunk in encrypted_chunks(tmp_path, "f")]
        assert chunks == ["f.002.enc", "f.999.enc", "f.1000.enc", "f.1001.enc"]

    @pytest.mark.parametrize("passphrase", ["zażółć 🔑", "ä" * 1500, " both ends "])
    def test_passphrases(self, maker: MakerFactory, tmp_path: Path, passphrase: str) -> None:
        backup = maker(passphrase=passphrase)
        backup.add_qube("work", files={"firewall.xml": b"<firewall/>"})
        path = backup.write(tmp_path / "backup")
        restored = published_procedure(path, passphrase, "vm1/firewall.xml", tmp_path / "out")
        assert restored.read_bytes() == b"<firewall/>"

    def test_an_ext4_image_comes_back_with_its_files(
        self, maker: MakerFactory, tmp_path: Path
    ) -> None:
        tree = tmp_path / "tree"
        (tree / "home/user").mkdir(parents=True)
        (tree / "home/user/your_data.txt").write_text("recovered")
        image = make_ext4(tmp_path / "image", 8 * MIB, tree)
        backup = maker()
        backup.add_qube("work", files={"private.img": image}, qubes_writer=["private.img"])
        path = backup.write(tmp_path / "backup")
        restored = published_procedure(path, SECRET, "vm1/private.img", tmp_path / "out")
        command = ["debugfs", "-R", "cat /home/user/your_data.txt", str(restored)]
        assert run(command) == b"recovered"

    def test_dom0_home_comes_back_as_a_tree(self, maker: MakerFactory, tmp_path: Path) -> None:
        home = make_home(tmp_path / "jo.doe")
        backup = maker()
        backup.add_home("jo.doe", home)
        (expected,) = vectorfiles.describe(backup, "")["homes"]
        path = backup.write(tmp_path / "backup")
        restored = published_procedure(path, SECRET, "dom0-home/jo.doe", tmp_path / "out")
        assert vectorfiles.describe_tree(restored) == without_source(expected["entries"])

    def test_a_home_named_otherwise_is_copied_whole(
        self, maker: MakerFactory, tmp_path: Path
    ) -> None:
        home = make_home(tmp_path / "somewhere")
        backup = maker()
        backup.add_home("user", home)
        (expected,) = vectorfiles.describe(backup, "")["homes"]
        assert without_source(expected["entries"]) == vectorfiles.describe_tree(home)


class TestHeader:
    def test_default_is_as_qubes_writes_it(self, maker: MakerFactory) -> None:
        assert maker(compression_filter="zstd").header == (
            b"version=4\nencrypted=True\ncompressed=True\ncompression-filter=zstd\n"
            b"hmac-algorithm=scrypt\nbackup-id=20240917T101112-1234\n"
        )

    def test_published_one_has_five_lines(self) -> None:
        assert published_header("20161020T123455-1234") == (
            b"version=4\nencrypted=True\ncompressed=True\ncompression-filter=gzip\n"
            b"backup_id=20161020T123455-1234\n"
        )

    def test_a_changed_header_is_not_the_verified_one(
        self, maker: MakerFactory, tmp_path: Path
    ) -> None:
        backup = maker()
        members = replace(backup.members(), "backup-header", backup.header + b"a=b\n")
        path = assemble(members, tmp_path / "backup")
        with pytest.raises(RuntimeError, match="differs"):
            published_procedure(path, SECRET, "qubes.xml", tmp_path / "out")


class TestInnerArchive:
    def test_gnu_tar_writes_type_s_where_there_are_holes(self, tools: None, tmp_path: Path) -> None:
        image = sparse_image(tmp_path / "private.img")
        with inner_tar(image, "vm1/", compression_filter=None) as stream:
            header = stream.read()[:512]
        assert header[156:157] == b"S"
        assert header[257:265] == b"ustar  \0"

    def test_gnu_tar_writes_type_0_where_there_are_none(self, tools: None, tmp_path: Path) -> None:
        image = tmp_path / "private.img"
        image.write_bytes(os.urandom(8192))
        with inner_tar(image, "vm1/", compression_filter=None) as stream:
            header = stream.read()[:512]
        assert header[:16] == b"vm1/private.img\0"
        assert header[156:157] == b"0"

    def test_qubes_writer_names_and_measures_the_image_in_pax_records(self, tmp_path: Path) -> None:
        image = sparse_image(tmp_path / "image")
        with qubes_tarwriter(image, "vm1/private.img", compression_filter=None, pid=42) as stream:
            data = stream.read()
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            (info,) = archive.getmembers()
        assert info.name == "vm1/private.img"
        assert info.size == image.stat().st_size
        assert info.pax_headers["GNU.sparse.realsize"] == str(info.size)
        assert b"vm1/GNUSparseFile.42/private.img" in data

    def test_qubes_writer_does_not_pad_its_data(self, tmp_path: Path) -> None:
        image = tmp_path / "image"
        image.write_bytes(b"x" * 700)
        with qubes_tarwriter(image, "vm1/private.img", compression_filter=None) as stream:
            assert stream.read().endswith(b"x" * 700 + bytes(1024))

    def test_more_than_8_gib_of_data_put_the_size_into_a_pax_record(self) -> None:
        header = sparse_header("vm1/root.img", [(0, 9 << 30)], 512, pid=42)
        assert b" size=%d\n" % ((9 << 30) + 512) in header
        assert int(header[-512:][124:135], 8) == 0

    @pytest.mark.parametrize(
        ("size", "data", "expected"),
        [
            (0, {}, [(0, 0)]),
            (1000, {}, [(1000, 0)]),
            (1024, {0: b"x"}, [(0, 512), (1024, 0)]),
            (1025, {1024: b"x"}, [(1024, 1)]),
            (4 * MIB, {MIB - 1: b"xy"}, [(MIB - 512, 1024), (4 * MIB, 0)]),
            (4 * MIB, {0: b"x" * 4 * MIB}, [(0, 4 * MIB)]),
            (1 << 40, {1 << 39: b"x"}, [(1 << 39, 512), (1 << 40, 0)]),
        ],
    )
    def test_sparse_map_reaches_the_end(
        self, tmp_path: Path, size: int, data: dict[int, bytes], expected: list[tuple[int, int]]
    ) -> None:
        with make_sparse(tmp_path / "image", size, data).open("rb") as image:
            assert sparse_map(image) == expected

    def test_pbzip2_writes_several_streams(self, tools: None, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"0123456789abcdef" * (128 << 10))
        with inner_tar(tmp_path / "file", "vm1/", compression_filter="pbzip2") as stream:
            first = bz2.BZ2Decompressor()
            first.decompress(stream.read())
        assert first.unused_data.startswith(b"BZh")


class TestChunks:
    @pytest.mark.parametrize(
        ("size", "expected"),
        [(0, [0]), (9, [9]), (10, [10, 0]), (11, [10, 1]), (20, [10, 10, 0])],
    )
    def test_a_full_last_chunk_is_followed_by_an_empty_one(
        self, tmp_path: Path, size: int, expected: list[int]
    ) -> None:
        chunks = split_chunks(io.BytesIO(bytes(size)), 10, tmp_path)
        assert [chunk.stat().st_size for chunk in chunks] == expected
        assert list(tmp_path.iterdir()) == []

    def test_scrypt_reads_2047_bytes_of_the_passphrase(self, tools: None, tmp_path: Path) -> None:
        encrypted = scrypt_encrypt(b"data", tmp_path / "a", b"x" * 3000)
        assert run(["scrypt", "dec", "-P", str(encrypted)], stdin=b"x" * 2047 + b"\n") == b"data"
        with pytest.raises(RuntimeError, match="incorrect"):
            run(["scrypt", "dec", "-P", str(encrypted)], stdin=b"x" * 2046 + b"\n")

    def test_each_outer_member_is_a_whole_pax_archive(self, tools: None, tmp_path: Path) -> None:
        (tmp_path / "vm1").mkdir()
        (tmp_path / "vm1/private.img.000.enc").write_bytes(b"data")
        archive = outer_member(tmp_path, "vm1/private.img.000.enc")
        assert len(archive) == 10_240
        assert archive[156:157] == b"x"
        assert b" mtime=" in archive[512:1024]


class TestDamage:
    @pytest.fixture
    def members(self, maker: MakerFactory) -> list[Member]:
        backup = maker()
        backup.add_qube("work", files={"firewall.xml": b"<firewall/>", "notes.txt": b"notes"})
        return backup.members()

    def test_the_list_it_comes_from_stays_as_it_was(self, members: list[Member]) -> None:
        before = [(member.name, member.path.read_bytes()) for member in members]
        notes, firewall = "vm1/notes.txt.000.enc", "vm1/firewall.xml.000.enc"
        old = dict(before)
        assert get(flip_byte(members, notes, -1), notes).path.read_bytes()[:-1] == old[notes][:-1]
        assert get(flip_byte(members, notes, 3), notes).path.read_bytes()[4:] == old[notes][4:]
        assert get(extend(members, notes, b"!"), notes).path.read_bytes() == old[notes] + b"!"
        assert get(cut(members, notes, -5), notes).path.read_bytes() == old[notes][:-5]
        assert get(cut(members, notes, 5), notes).path.read_bytes() == old[notes][:5]
        swapped = swap(members, notes, firewall)
        assert get(swapped, notes).path.read_bytes() == old[firewall]
        assert get(swapped, firewall).path.read_bytes() == old[notes]
        assert [member.name for member in drop(members, notes)] == list(old)[:-1]
        assert [(member.name, member.path.read_bytes()) for member in members] == before

    def test_a_renamed_or_replaced_member_is_assembled_under_its_name(
        self, members: list[Member], tmp_path: Path
    ) -> None:
        renamed = rename(members, "vm1/notes.txt.000.enc", "vm2/other.000.enc")
        path = assemble(renamed, tmp_path / "backup")
        assert stored_names(path) == [member.name for member in renamed]
        again = assemble(flip_byte(renamed, "vm2/other.000.enc", 0), tmp_path / "again")
        assert stored_names(again) == stored_names(path)

    def test_flipped_bytes_are_refused_by_scrypt(
        self, members: list[Member], tmp_path: Path
    ) -> None:
        path = assemble(flip_byte(members, "vm1/notes.txt.000.enc", -40), tmp_path / "backup")
        with pytest.raises(RuntimeError, match="scrypt"):
            published_procedure(path, SECRET, "vm1/notes.txt", tmp_path / "out")

    def test_forged_archives_follow_at_the_end_of_the_file(
        self, members: list[Member], tmp_path: Path
    ) -> None:
        path = assemble(members, tmp_path / "backup")
        size = path.stat().st_size
        append_bytes(path, forged_archive("../../evil", b"data"))
        assert stored_names(path)[-1] == "../../evil"
        assert path.stat().st_size == size + 10_240
        assert truncate(path, -10_240).stat().st_size == size


@rows("name", vectorfiles.names())
def test_vectors_are_what_their_descriptions_say(tools: None, name: str, tmp_path: Path) -> None:
    expected, backup = vectorfiles.load(name), vectorfiles.backup_path(name)
    assert stored_names(backup) == expected["members"]
    for file in expected["files"]:
        restored = by_procedure(expected, backup, file["stored_name"], tmp_path)
        assert vectorfiles.describe_content(restored) == {
            key: file[key] for key in ("size", "sha256")
        }
    for folder in [*expected["homes"], *expected["folders"]]:
        restored = by_procedure(expected, backup, folder["stored_name"], tmp_path)
        found, entries = vectorfiles.describe_tree(restored), without_source(folder["entries"])
        if expected["format"] == 2:  # from volumes, tar sets a folder's time before it is filled
            found[0]["mtime"] = entries[0]["mtime"]
        assert found == entries
    for link in expected.get("links", []):
        restored = by_procedure(expected, backup, link["stored_name"], tmp_path)
        prefix = os.path.dirname(link["stored_name"])
        is_changed = expected["format"] == 2 and not link["target"].startswith("/")  # by `--xform`
        target = f"{prefix}/{link['target']}" if is_changed else link["target"]
        assert os.readlink(restored) == target


def by_procedure(
    expected: vectorfiles.Description, backup: Path, stored_name: str, outdir: Path
) -> Path:
    """One file of a vector, by the published procedure for its format."""
    arguments = (backup, expected["passphrase"], stored_name, outdir)
    decompressor = expected["compression_filter"]
    if expected["format"] == 4:
        return published_procedure(*arguments, decompressor)
    options = {
        "digest": expected["digest"],
        "cipher": expected["cipher"] if expected["encrypted"] else None,
    }
    if expected["format"] == 3:
        return published_procedure_3(*arguments, decompressor, **options)
    options["zlib_around"] = expected["zlib_around"]
    return published_procedure_2(*arguments, decompressor, **options)


def test_the_sample_backup_holds_a_letter(tools: None, tmp_path: Path) -> None:
    folder = Path(__file__).parent.parent.parent / "examples"
    backup, passphrase = folder / "sample-backup", (folder / "sample-passphrase.txt").read_text()
    assert backup.stat().st_size < 150 << 10
    image = published_procedure(backup, passphrase.strip(), "vm1/private.img", tmp_path)
    letter = run(["debugfs", "-R", "cat /home/user/Documents/letter.txt", str(image)])
    assert letter.startswith(b"Dear reader,")


def test_vectors_stay_small() -> None:
    files = [path for path in vectorfiles.FOLDER.iterdir() if path.is_file()]
    # an encrypted stream of format 3 has tar's padding in it, which nothing compresses
    assert sum(path.stat().st_size for path in files) < 6 << 20


def without_source(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries as a restored tree shows them, where what a link's target was before is lost."""
    return [
        {key: value for key, value in entry.items() if key != "source_target"} for entry in entries
    ]
