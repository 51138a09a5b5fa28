"""Backups of format 3 by the real programs: what comes out, and what is said of them."""

from __future__ import annotations

import ast
import contextlib
import hmac
import itertools
import os
import random
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

import qbackup
from qbackup import (
    AlreadyPassed,
    BackupArchive,
    ChunkDamaged,
    FolderArchive,
    HeaderAltered,
    UnsupportedFormat,
    UsageError,
    WrongPassphrase,
)
from qbackup.crypto.ciphers import choose_cbc
from qbackup.crypto.kdf import Derivation
from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.formats import choose_format
from qbackup.formats.v3 import JOURNAL_COST, UnlockedFormat3
from qbackup.storage.chunk_table import ChunkTable
from tests.maker import (
    FILTERS,
    HMAC_TEXTS,
    Format3Maker,
    assemble,
    drop,
    flip_byte,
    make_sparse,
    published_procedure_3,
    rename,
    replace,
)
from tests.support.commandline import call, run
from tests.support.inside import inside
from tests.support.restored import of_tree, snapshot, statuses
from tests.support.sources import Fickle, Recorded, piped
from tests.support.speed import rows

KIB = 1024
MIB = 1 << 20
SECRET = "correct horse battery staple"
CHEAP = ScryptParameters(10, 8, 1)
NOISE = random.Random(3).randbytes(40 * KIB)
FORMATS = Path(qbackup.__file__).parent / "formats"
Make = Callable[..., Format3Maker]


@pytest.fixture(autouse=True)
def cheap_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second less for each restore."""
    monkeypatch.setattr("qbackup.formats.v3.JOURNAL_COST", CHEAP)


@pytest.fixture
def make(tools: None, tmp_path: Path) -> Make:
    numbers = itertools.count()
    return lambda **options: Format3Maker(tmp_path / f"maker-{next(numbers)}", **options)


@contextlib.contextmanager
def opened(path: Path, *, pipe: bool = False, **options: Any) -> Iterator[BackupArchive]:
    """The backup, unlocked, from a file or from a pipe."""
    options.setdefault("passphrase", SECRET)
    with contextlib.ExitStack() as stack:
        way: Any = stack.enter_context(piped(path)) if pipe else path
        yield stack.enter_context(qbackup.open(way, **options))


def simple(make: Make, folder: Path, **options: Any) -> Path:
    """A backup of one image in several chunks, and one small file."""
    backup = make(**{"chunk_size": 8 * KIB, **options})
    backup.add_qube("work", files={"private.img": NOISE, "firewall.xml": b"<firewall/>"})
    return backup.write(folder / "backup")


@pytest.fixture(scope="module")
def raw(tools: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Encrypted, not compressed; nobody changes it."""
    folder = tmp_path_factory.mktemp("raw")
    backup = Format3Maker(folder / "maker", compression_filter=None, chunk_size=8 * KIB)
    backup.add_qube("work", files={"private.img": NOISE, "firewall.xml": b"<firewall/>"})
    return backup.write(folder / "backup")


def home(folder: Path) -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/file").write_bytes(NOISE[:18000])
    (folder / "same").symlink_to(folder.name)
    (folder / "inside").symlink_to(f"{folder.name}/sub")
    (folder / "out").symlink_to("/etc/passwd")
    os.link(folder / "sub/file", folder / "twin")
    return folder


def template(folder: Path) -> Path:
    (folder / "apps").mkdir(parents=True)
    make_sparse(folder / "root.img", 2 * MIB, {MIB: NOISE})
    (folder / "apps/a.desktop").write_bytes(b"[Desktop Entry]\n")
    (folder / "apps/link").symlink_to("a.desktop")
    (folder / "icon.png").symlink_to("/usr/share/icons/gray.png")
    (folder / ".hidden").write_bytes(b"hidden")
    return folder


class TestEveryKind:
    @rows("pipe", [False, True], ids=["file", "pipe"])
    @rows("chunk_size", [100 * MIB, 20_000], ids=["one chunk", "many"], quick=2)
    @rows("encrypted", [True, False], ids=["encrypted", "plain"], quick=2)
    @rows("compression_filter", [*FILTERS, None])
    def test_comes_out_byte_for_byte(
        self,
        make: Make,
        tmp_path: Path,
        compression_filter: str | None,
        encrypted: bool,
        chunk_size: int,
        pipe: bool,
    ) -> None:
        data = {0: b"start", MIB + 3 * 512: NOISE, 2 * MIB - 100: b"x" * 50_000}
        image = make_sparse(tmp_path / "image", 3 * MIB + 77, data)
        backup = make(
            compression_filter=compression_filter, encrypted=encrypted, chunk_size=chunk_size
        )
        backup.add_qube("work", files={"private.img": image, "firewall.xml": b""})
        backup.add_home("user", home(tmp_path / "user"))
        with opened(backup.write(tmp_path / "backup"), pipe=pipe) as archive:
            report = archive.restore(tmp_path / "out")
        assert report.warnings == ()
        assert (tmp_path / "out/qubes.xml").read_bytes() == backup.default_qubes_xml()
        assert (tmp_path / "out/work/private.img").read_bytes() == image.read_bytes()
        assert (tmp_path / "out/work/firewall.xml").read_bytes() == b""
        assert snapshot(tmp_path / "out/dom0/user") == snapshot(tmp_path / "user")

    def test_is_what_the_published_procedure_gives(self, raw: Path, tmp_path: Path) -> None:
        theirs = published_procedure_3(raw, SECRET, "vm1/private.img", tmp_path / "p", None)
        with opened(raw) as archive, archive.open("work/private.img") as stream:
            assert stream.read() == theirs.read_bytes() == NOISE

    @pytest.mark.slow
    def test_by_the_command_line(self, raw: Path, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text(SECRET + " \n")  # white space, as Qubes' tools strip it
        with raw.open("rb") as file:
            done = run(
                "restore", "-", "-o", tmp_path / "out", "-p", tmp_path / "secret", stdin=file
            )
        assert (done.status, (tmp_path / "out/work/private.img").read_bytes()) == (0, NOISE)
        shown = call("cat", raw, "work/private.img", env={"QBACKUP_PASSPHRASE": SECRET})
        assert (shown.status, shown.stdout) == (0, NOISE)

    @rows("empty", ["vm1/private.img", "qubes.xml"])
    @rows("compression_filter", ["gzip", None])
    def test_with_an_empty_chunk_at_the_end(
        self, make: Make, tmp_path: Path, compression_filter: str | None, empty: str
    ) -> None:
        options = {"compression_filter": compression_filter, "empty_chunk_after": [empty]}
        for encrypted, chunk_size in ((True, 8 * KIB), (True, MIB)):
            path = simple(make, tmp_path, encrypted=encrypted, chunk_size=chunk_size, **options)
            with opened(path) as archive:
                assert archive.verify().ok

    @pytest.mark.slow
    @pytest.mark.parametrize("encrypted", [True, False])
    def test_with_chunks_of_a_size_that_no_writer_makes(
        self, make: Make, tmp_path: Path, encrypted: bool
    ) -> None:
        path = simple(make, tmp_path, compression_filter=None, chunk_size=997, encrypted=encrypted)
        with opened(path) as archive, archive.open("work/private.img") as stream:
            assert stream.read() == NOISE

    @rows("text", [*HMAC_TEXTS.values(), None])
    def test_in_every_spelling_of_the_hmac(
        self, make: Make, tmp_path: Path, text: str | None
    ) -> None:
        with opened(simple(make, tmp_path, hmac_text=text)) as archive:
            assert archive.verify().ok

    def test_with_the_filter_that_the_user_names(self, make: Make, tmp_path: Path) -> None:
        lies = b"version=3\nencrypted=True\ncompressed=True\ncompression-filter=bzip2\n"
        path = simple(make, tmp_path, header=lies)
        with opened(path) as archive:
            assert not archive.verify(check=False).ok
        with opened(path, compression_filter="gzip") as archive:
            assert archive.verify().ok


class TestAlgorithms:
    @rows("cipher", ["aes-128-cbc", "aes-192-cbc", "aes-256-cbc", "AES-256-CBC", "des-ede3-cbc"])
    def test_ciphers(self, make: Make, tmp_path: Path, cipher: str) -> None:
        with opened(simple(make, tmp_path, cipher=cipher)) as archive:
            assert archive.restore(tmp_path / "out").ok
        assert (tmp_path / "out/work/private.img").read_bytes() == NOISE

    @pytest.mark.parametrize("cipher", ["camellia-256-cbc", "aes-256-ctr"])
    def test_a_cipher_that_is_not_read_is_refused_by_name(
        self, make: Make, tmp_path: Path, cipher: str
    ) -> None:
        path = simple(make, tmp_path, cipher=cipher)
        ended = call("restore", path, "-o", tmp_path / "out", env={"QBACKUP_PASSPHRASE": SECRET})
        assert ended.status == 4 and cipher in ended.err
        assert not (tmp_path / "out").exists()

    @rows("digest", ["SHA512", "sha256", "SHA1", "ripemd160", "SHA3-512", "BLAKE2b512", "SHA224"])
    def test_digests(self, make: Make, tmp_path: Path, digest: str) -> None:
        with opened(simple(make, tmp_path, digest=digest)) as archive:
            assert archive.verify().ok

    def test_a_weak_digest_counts_only_when_it_is_asked_for(
        self, make: Make, tmp_path: Path
    ) -> None:
        path = simple(make, tmp_path, digest="MD5")
        refused = call("verify", path, env={"QBACKUP_PASSPHRASE": SECRET})
        assert refused.status == 4 and "--hmac-algorithm MD5" in refused.err
        for name in ("MD5", "md5"):
            allowed = call(
                "verify", path, "--hmac-algorithm", name, env={"QBACKUP_PASSPHRASE": SECRET}
            )
            assert allowed.status == 0, allowed.err

    def test_a_weak_digest_is_refused_behind_a_strong_one_too(
        self, make: Make, tmp_path: Path
    ) -> None:
        """The header's own proof is good; it says that the chunks' are not."""
        header = b"version=3\nhmac-algorithm=MD5\nencrypted=False\ncompressed=False\n"
        path = simple(make, tmp_path, header=header, digest="SHA512")
        with pytest.raises(UnsupportedFormat, match="too weak"):
            qbackup.open(path, passphrase=SECRET)

    def test_a_digest_that_is_asked_for_is_the_only_one_tried(self, raw: Path) -> None:
        with pytest.raises(WrongPassphrase):
            qbackup.open(raw, passphrase=SECRET, hmac_algorithm="sha256")
        with qbackup.open(raw, passphrase=SECRET, hmac_algorithm="SHA512") as archive:
            assert archive.verify().ok
        with pytest.raises(UnsupportedFormat, match="nonsense"):
            qbackup.open(raw, passphrase=SECRET, hmac_algorithm="nonsense")


class TestHeader:
    def test_says_what_there_is(self, raw: Path) -> None:
        with opened(raw) as archive:
            assert archive.header.version == 3
            assert archive.header.crypto_algorithm == "aes-256-cbc"
            assert archive.header.hmac_algorithm == "SHA512"
            assert archive.header.backup_id == ""

    def test_that_names_neither_cipher_nor_digest(self, make: Make, tmp_path: Path) -> None:
        header = b"version=3\nencrypted=True\ncompressed=True\ncompression-filter=gzip\n"
        with opened(simple(make, tmp_path, header=header)) as archive:
            assert archive.verify().ok

    @pytest.mark.slow
    @pytest.mark.parametrize("passphrase", ["guess", SECRET[:-1], SECRET + "x", "\N{SNOWMAN}"])
    def test_a_wrong_passphrase(self, raw: Path, tmp_path: Path, passphrase: str) -> None:
        for way in (raw, "-"):
            with raw.open("rb") as file:
                ended = run(
                    "restore", way, "-o", tmp_path / "out", stdin=file,
                    env={"QBACKUP_PASSPHRASE": passphrase},
                )  # fmt: skip
            assert ended.status == 3 and "does not fit" in ended.err
            assert not (tmp_path / "out").exists()

    def test_a_passphrase_can_be_tried_again_on_a_pipe(self, raw: Path) -> None:
        with opened(raw, pipe=True, passphrase=None) as archive:
            with pytest.raises(WrongPassphrase):
                archive.unlock("guess")
            archive.unlock(SECRET)
            assert archive.verify().ok

    def test_a_passphrase_of_any_length_and_character(self, make: Make, tmp_path: Path) -> None:
        for number, secret in enumerate(("\N{SNOWMAN} pass:word=", "x" * 3000, "-hmac")):
            folder = tmp_path / str(number)
            folder.mkdir()
            path = simple(make, folder, passphrase=secret)
            with opened(path, passphrase=secret) as archive:
                assert archive.verify().ok
            with pytest.raises(WrongPassphrase):
                qbackup.open(path, passphrase=secret[:-1])

    @pytest.mark.parametrize("pipe", [False, True])
    def test_every_change_is_seen(self, make: Make, tmp_path: Path, pipe: bool) -> None:
        maker = make()
        maker.add_qube("work", files={"private.img": NOISE})
        members = maker.members()
        text = maker.header or b""
        for number, other in enumerate(
            (
                text.replace(b"encrypted=True", b"encrypted=False"),
                text.replace(b"SHA512", b"SHA256"),
                text.replace(b"gzip", b"xz"),
                text + b"\n",
            )
        ):
            path = assemble(replace(members, "backup-header", other), tmp_path / f"b{number}")
            with (
                pytest.raises(WrongPassphrase, match="header was altered"),
                opened(path, pipe=pipe),
            ):
                pass

    @pytest.mark.parametrize(
        "proof", [b"", b"(stdin)= \n", b"(stdin)= xyz\n", b"(stdin)= 00\n" * 1000, b"\xff" * 100]
    )
    def test_a_proof_that_is_none(self, make: Make, tmp_path: Path, proof: bytes) -> None:
        maker = make()
        members = replace(maker.members(), "backup-header.hmac", proof)
        with pytest.raises(HeaderAltered, match="HMAC"):
            qbackup.open(assemble(members, tmp_path / "backup"), passphrase=SECRET)

    @pytest.mark.parametrize("size", [1, 15, 19, 21, 63, 65])
    def test_a_proof_of_a_length_that_no_digest_has(
        self, make: Make, tmp_path: Path, size: int
    ) -> None:
        maker = make()
        proof = b"(stdin)= " + b"00" * size + b"\n"
        members = replace(maker.members(), "backup-header.hmac", proof)
        with pytest.raises(WrongPassphrase):
            qbackup.open(assemble(members, tmp_path / "backup"), passphrase=SECRET)

    def test_no_proof_at_all(self, make: Make, tmp_path: Path) -> None:
        members = drop(make().members(), "backup-header.hmac")
        path = assemble(members, tmp_path / "backup")
        for pipe in (False, True):
            with pytest.raises(HeaderAltered, match="missing"), opened(path, pipe=pipe):
                pass

    def test_of_version_4_is_never_proven_by_an_hmac(self, make: Make, tmp_path: Path) -> None:
        """Though its HMAC is right, as whoever knows the passphrase can make it."""
        header = (
            b"version=4\nencrypted=True\ncompressed=False\nhmac-algorithm=scrypt\nbackup-id=x\n"
        )
        path = simple(make, tmp_path, header=header)
        with pytest.raises(HeaderAltered, match="scrypt"):
            qbackup.open(path, passphrase=SECRET)

    def test_of_version_3_is_never_proven_by_scrypt(
        self, maker: Callable[..., Any], tmp_path: Path
    ) -> None:
        header = b"version=3\nencrypted=True\ncompressed=False\n"
        backup = maker(header=header)
        backup.add_qube("work", files={"private.img": NOISE})
        with pytest.raises(HeaderAltered, match="copy, which is of format 4"):
            qbackup.open(backup.write(tmp_path / "backup"), passphrase=backup.passphrase)

    @rows(
        ("line", "says"),
        [
            (b"hmac-algorithm=scrypt", "scrypt"),
            (b"compressed=True", "names no program"),
            (b"encrypted=True\nencrypted=True", "twice"),
        ],
    )
    def test_that_makes_no_sense(self, make: Make, tmp_path: Path, line: bytes, says: str) -> None:
        known = {b"encrypted": b"encrypted=True", b"compressed": b"compressed=False"}
        known[line.partition(b"=")[0]] = line
        path = simple(make, tmp_path, header=b"\n".join([b"version=3", *known.values(), b""]))
        with pytest.raises(UnsupportedFormat, match=says):
            qbackup.open(path, passphrase=SECRET)

    def test_a_filter_that_is_not_built_in(self, make: Make, tmp_path: Path) -> None:
        header = b"version=3\nencrypted=True\ncompressed=True\ncompression-filter=lzop\n"
        with pytest.raises(UnsupportedFormat, match="--compression-filter lzop"):
            qbackup.open(simple(make, tmp_path, header=header), passphrase=SECRET)


class TestFolders:
    @rows("dereference", [False, True])
    @rows("encrypted", [True, False])
    @rows("pipe", [False, True])
    def test_a_template_becomes_its_qubes_folder(
        self, make: Make, tmp_path: Path, encrypted: bool, dereference: bool, pipe: bool
    ) -> None:
        folder = template(tmp_path / "template")
        if dereference:
            (folder / "icon.png").unlink()
        backup = make(encrypted=encrypted, dereference=dereference, chunk_size=8 * KIB)
        backup.add_qube("fedora", qid=9, klass="TemplateVM", template=None, files={".": folder})
        path = backup.write(tmp_path / "backup")
        with opened(path, pipe=pipe) as archive:
            report = archive.restore(tmp_path / "out")
        assert statuses(report) == {"qubes.xml": "ok", "fedora/.": "ok"}
        if dereference:
            (folder / "apps/link").unlink()
            (folder / "apps/link").write_bytes(b"[Desktop Entry]\n")
        assert snapshot(tmp_path / "out/fedora") == snapshot(folder)

    @pytest.mark.parametrize("name", ["apps", "apps.templates", "kernels"])
    def test_other_folders_stand_in_the_qubes_folder(
        self, make: Make, tmp_path: Path, name: str
    ) -> None:
        folder = home(tmp_path / name)
        backup = make(dereference=False)
        backup.add_qube("work", files={"private.img": NOISE, name: folder})
        with opened(backup.write(tmp_path / "backup")) as archive:
            file = archive.file(f"work/{name}")
            assert file.is_folder
            with pytest.raises(FolderArchive):
                file.open()
            assert {entry.path for entry in file.entries()} >= {".", "sub/file", "twin"}
            assert archive.restore(tmp_path / "out").ok
        found = snapshot(tmp_path / "out/work")
        assert {k: v for k, v in found.items() if k.startswith(name + "/")} == of_tree(name, folder)
        assert (tmp_path / "out/work/private.img").read_bytes() == NOISE

    def test_a_template_is_kept_by_a_second_run(self, make: Make, tmp_path: Path) -> None:
        backup = make(dereference=False)
        folder = template(tmp_path / "template")
        backup.add_qube("fedora", klass="TemplateVM", template=None, files={".": folder})
        path = backup.write(tmp_path / "backup")
        for status in ("ok", "kept"):
            with opened(path) as archive:
                report = archive.restore(tmp_path / "out")
            assert statuses(report) == {"qubes.xml": status, "fedora/.": status}
        (tmp_path / "out/fedora/root.img").write_bytes(b"changed")
        with opened(path) as archive:
            report = archive.restore(tmp_path / "out", check=False)
        assert statuses(report)["fedora/."] == "exists"
        with opened(path) as archive:
            assert archive.restore(tmp_path / "out", overwrite=True).ok
        assert snapshot(tmp_path / "out/fedora") == snapshot(folder)

    @pytest.mark.parametrize("overwrite", [False, True])
    @pytest.mark.parametrize("order", [[".", "private.img"], ["private.img", "."]])
    def test_a_qubes_folder_and_a_file_in_it_never_replace_each_other(
        self, make: Make, tmp_path: Path, order: list[str], overwrite: bool
    ) -> None:
        folder = template(tmp_path / "template")
        (folder / "private.img").write_bytes(b"of the folder")
        files: dict[str, bytes | Path] = {".": folder, "private.img": NOISE}
        backup = make(dereference=False)
        backup.add_qube("fedora", klass="TemplateVM", files={name: files[name] for name in order})
        with opened(backup.write(tmp_path / "backup")) as archive:
            report = archive.restore(tmp_path / "out", overwrite=overwrite, check=False)
        found = statuses(report)
        assert (found[f"fedora/{order[0]}"], found[f"fedora/{order[1]}"]) == ("ok", "exists")
        content = (tmp_path / "out/fedora/private.img").read_bytes()
        assert content == (NOISE if order[0] == "private.img" else b"of the folder")

    def test_a_damaged_template_leaves_nothing_under_the_qubes_name(
        self, make: Make, tmp_path: Path
    ) -> None:
        backup = make(dereference=False, compression_filter=None, chunk_size=8 * KIB)
        folder = template(tmp_path / "template")
        backup.add_qube("fedora", qid=9, klass="TemplateVM", template=None, files={".": folder})
        path = assemble(flip_byte(backup.members(), "vm9/..003", 100), tmp_path / "backup")
        with opened(path) as archive:
            report = archive.restore(tmp_path / "out", keep_damaged=True, check=False)
        assert statuses(report)["fedora/."] == "damaged"
        assert not (tmp_path / "out/fedora").exists()
        kept = snapshot(tmp_path / "out/fedora.damaged")
        assert kept and kept.items() <= snapshot(folder).items()

    def test_a_bare_symbolic_link_is_reported_and_not_followed(
        self, make: Make, tmp_path: Path
    ) -> None:
        link = tmp_path / "link"
        link.symlink_to("/etc/passwd")
        backup = make(dereference=False)
        backup.add_qube(
            "alone", klass="StandaloneVM", files={"root.img": link, "private.img": b"x"}
        )
        with opened(backup.write(tmp_path / "backup")) as archive:
            report = archive.restore(tmp_path / "out", check=False)
        (bad,) = report.bad
        assert (bad.qube, bad.name, bad.status) == ("alone", "root.img", "damaged")
        assert "leads to /etc/passwd, and links are not followed" in (bad.error or "")
        assert set(snapshot(tmp_path / "out/alone")) == {"private.img"}


class TestChunksAlone:
    """Each chunk can be opened by itself, if what it needs is there."""

    @rows("compression_filter", [None, "gzip"])
    @rows("encrypted", [True, False])
    @rows("chunk_size", [8 * KIB, 1000])
    def test_together_they_are_the_stream(
        self, make: Make, tmp_path: Path, compression_filter: str | None, encrypted: bool,
        chunk_size: int,
    ) -> None:  # fmt: skip
        options = {"encrypted": encrypted, "compression_filter": compression_filter}
        path = simple(make, tmp_path, chunk_size=chunk_size, **options)
        if chunk_size % 16 and encrypted:
            return
        with opened(path) as archive:
            chunks = list(archive.file("work/private.img").chunks)
            assert len(chunks) > 4
            parts = [chunk.open().read() for chunk in chunks]
            sizes = [chunk.size for chunk in chunks]
        if encrypted:
            assert [len(part) for part in parts[:-1]] == [sizes[0] - 16, *sizes[1:-1]]
            assert sizes[-1] - 16 <= len(parts[-1]) < sizes[-1]
        else:
            assert [len(part) for part in parts] == sizes
        if compression_filter is None:
            (tmp_path / "tar").write_bytes(b"".join(parts))
            with tarfile.open(tmp_path / "tar") as tar:
                content = tar.extractfile(tar.getmembers()[0])
                assert content is not None and content.read() == NOISE

    def test_one_needs_others(self, make: Make, tmp_path: Path) -> None:
        maker = make(compression_filter=None, chunk_size=8 * KIB)
        maker.add_qube("work", files={"private.img": NOISE})
        names = [f"vm1/private.img.{index:03d}" for index in range(6)]
        for lost, affected in ((0, set(range(7))), (2, {2, 3})):
            damaged = flip_byte(maker.members(), names[lost], 50)
            with opened(assemble(damaged, tmp_path / "backup")) as archive:
                failed = set()
                for chunk in archive.file("work/private.img").chunks:
                    try:
                        chunk.open().read()
                    except ChunkDamaged:
                        failed.add(chunk.index)
                assert failed == affected
        gone = drop(maker.members(), names[1])
        with opened(assemble(gone, tmp_path / "backup")) as archive:
            chunk = next(c for c in archive.file("work/private.img").chunks if c.index == 2)
            with pytest.raises(ChunkDamaged, match="without chunk 001"):
                chunk.open().read()

    def test_from_a_pipe_only_the_first(self, raw: Path) -> None:
        with opened(raw, pipe=True) as archive:
            _ = archive.metadata
            chunks = iter(archive.file("work/private.img").chunks)
            with next(chunks).open() as first:
                assert first.read()[512:] == NOISE[: 8 * KIB - 512 - 16]
            with pytest.raises(UsageError, match="pipe"):
                next(chunks).open().read()

    def test_have_no_scrypt_parameters(self, raw: Path) -> None:
        with opened(raw) as archive, pytest.raises(UsageError, match="scrypt"):
            _ = next(iter(archive.file("work/private.img").chunks)).parameters

    def test_pass_once_on_a_pipe(self, raw: Path) -> None:
        with opened(raw, pipe=True) as archive:
            _ = archive.metadata
            chunk = next(iter(archive.file("work/private.img").chunks))
            chunk.open().read()
            with pytest.raises(AlreadyPassed):
                chunk.open().read()


class TestTheLastChunk:
    def test_is_named_where_the_end_is_wrong_though_another_one_was_tried_again(self) -> None:
        opener = UnlockedFormat3(b"secret", "sha512", choose_cbc("aes-256-cbc")).file()
        stored = b"Salted__12345678" + bytes(32)
        proof = b"= " + hmac.digest(b"secret", stored, "sha512").hex().encode()
        first = opener.parse_head("vm1/private.img.000", 0, b"")
        opener.parse_head("vm1/private.img.001", 1, b"")
        opener.parse_head("vm1/private.img.000", 0, b"")  # of the same name, from elsewhere
        first.open(b"", memoryview(bytearray(16) + stored), proof, lambda key, buffer: None)
        with pytest.raises(ChunkDamaged, match="padding") as caught:
            opener.finish()
        assert caught.value.chunk == "vm1/private.img.001"


class TestOutOfOrder:
    @pytest.mark.slow
    def test_looking_for_hmacs_costs_little_whatever_their_order(
        self, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who stores the backup chooses the order, which must not multiply the work."""
        maker = make(encrypted=False, compression_filter=None, chunk_size=100)
        maker.add_qube("work", files={"private.img": NOISE[:20_000]})
        members = maker.members()
        path = assemble([*members[:4], *reversed(members[4:])], tmp_path / "backup")
        looks = 0
        place = ChunkTable.location

        def counted(self: ChunkTable, run: int, position: int) -> tuple[int, int, int]:
            nonlocal looks
            looks += 1
            return place(self, run, position)

        monkeypatch.setattr(ChunkTable, "location", counted)
        with opened(path) as archive:
            assert archive.verify().ok
        assert looks < 40 * len(members)


class TestDrives:
    """Promise 1: what was checked is what is used."""

    @pytest.mark.parametrize("compression_filter", [None, "gzip"])
    def test_no_stored_byte_is_read_twice(
        self, make: Make, tmp_path: Path, compression_filter: str | None
    ) -> None:
        path = simple(make, tmp_path, compression_filter=compression_filter)
        source = Recorded(path)
        with qbackup.open(cast(BinaryIO, source), passphrase=SECRET) as archive:
            assert archive.restore(tmp_path / "out").ok
        with tarfile.open(path, ignore_zeros=True) as outer:
            for member in outer:
                times = source.times_read(member.offset_data, member.offset_data + member.size)
                assert times == [1] * member.size, member.name

    def test_a_drive_that_changes_its_answers_gains_nothing(
        self, raw: Path, tmp_path: Path
    ) -> None:
        with qbackup.open(cast(BinaryIO, Fickle(raw)), passphrase=SECRET) as archive:
            assert archive.restore(tmp_path / "out").ok
            with pytest.raises(ChunkDamaged), archive.open("work/private.img") as stream:
                stream.read()
        assert (tmp_path / "out/work/private.img").read_bytes() == NOISE


class TestQubesXml:
    def test_of_another_qubes_is_damage(self, make: Make, tmp_path: Path) -> None:
        """Its qubes would own no file of this backup, and nothing would be missed."""
        maker = make()
        maker.add_qube("work", files={"private.img": NOISE})
        maker.qubes_xml = b"<qubes><domains/></qubes>"
        with opened(maker.write(tmp_path / "backup")) as archive:
            report = archive.restore(tmp_path / "out", check=False)
        assert statuses(report)["qubes.xml"] == "damaged"
        assert "not <QubesVmCollection>" in (report.bad[0].error or "")
        assert (tmp_path / "out/vm1/private.img").read_bytes() == NOISE


class TestRunAgain:
    def test_files_are_kept(self, raw: Path, tmp_path: Path) -> None:
        for status in ("ok", "kept"):
            with opened(raw) as archive:
                assert set(statuses(archive.restore(tmp_path / "out")).values()) == {status}

    def test_a_journal_of_another_passphrase_is_not_believed(
        self, make: Make, tmp_path: Path
    ) -> None:
        one, other = tmp_path / "one", tmp_path / "other"
        for folder, secret in ((one, "one"), (other, "other")):
            folder.mkdir()
            path = simple(make, folder, passphrase=secret, encrypted=False, compression_filter=None)
            with opened(path, passphrase=secret) as archive:
                report = archive.restore(tmp_path / "out", check=False)
        assert {r.status for r in report.files if r.qube} == {"exists"}

    def test_guessing_by_the_journal_is_slow(
        self, raw: Path, tmp_path: Path, derivations: list[Derivation]
    ) -> None:
        """The only key that scrypt derives here, and only where there is a journal."""
        with opened(raw) as archive:
            archive.verify()
            assert derivations == []
            archive.restore(tmp_path / "out")
        assert [d.parameters for d in derivations] == [CHEAP]
        assert ScryptParameters(17, 8, 1) == JOURNAL_COST
        assert derivations[0].salt != b"" and derivations[0].secret == SECRET.encode()

    @pytest.mark.slow
    def test_the_journals_key_depends_on_the_header_and_its_proof(
        self, make: Make, tmp_path: Path, derivations: list[Derivation]
    ) -> None:
        changes: list[dict[str, Any]] = [{}, {"digest": "SHA256"}, {"passphrase": "x"}]
        for number, options in enumerate([*changes, {"compression_filter": None}]):
            folder = tmp_path / str(number)
            folder.mkdir()
            path = simple(make, folder, **options)
            with opened(path, passphrase=options.get("passphrase", SECRET)) as archive:
                archive.restore(folder / "out")
        assert len({d.salt for d in derivations}) == len(derivations) == 4


class TestInfo:
    def test_says_what_the_format_can_not_promise(self, raw: Path) -> None:
        ended = call("info", raw)
        assert ended.status == 0
        assert "NOT authenticated" in ended.out
        assert "aes-256-cbc" in ended.out and "HMAC with SHA512" in ended.out
        assert ended.out.count("not promised") == 2
        assert "scrypt" not in ended.out and "backup id" not in ended.out

    @pytest.mark.parametrize("pipe", [False, True])
    def test_in_json(self, raw: Path, pipe: bool) -> None:
        with raw.open("rb") as file:
            document = run("info", "-" if pipe else raw, "--json", stdin=file).document
        assert document["header"]["version"] == 3
        assert document["authenticated"] is False
        assert len(document["not_promised"]) == 2
        assert "names, order" in document["not_promised"][0]
        assert document["scrypt"] == [] and document["unreadable_chunks"] == 0
        assert document["members"] == 2 + 2 * document["chunks"]

    @pytest.mark.slow
    def test_of_format_4_has_nothing_to_say(self) -> None:
        from tests.support.commandline import SMALL

        assert "not_promised" not in call("info", SMALL, "--json").document
        assert "not promised" not in call("info", SMALL).out

    def test_of_a_backup_that_is_not_encrypted(self, make: Make, tmp_path: Path) -> None:
        path = simple(make, tmp_path, encrypted=False)
        assert "encryption:     none" in call("info", path).out
        env = {"QBACKUP_PASSPHRASE": SECRET}
        assert call("info", path, "--json", env=env).document["authenticated"] is True

    def test_of_a_cipher_that_is_not_read(self, make: Make, tmp_path: Path) -> None:
        ended = call("info", simple(make, tmp_path, cipher="camellia-128-cbc"))
        assert ended.status == 0 and "camellia-128-cbc" in ended.out


class TestFormat1:
    def test_is_told_that_it_can_be_copied(self, tmp_path: Path) -> None:
        (tmp_path / "qubes.xml").write_text("<QubesVmCollection/>")
        for name, *options in (["list"], ["restore", "-o", str(tmp_path / "out")], ["info"]):
            ended = call(name, tmp_path, *options)
            assert ended.status == 4
            assert "format 1" in ended.err and "copied as they are" in ended.err

    def test_another_folder_is_not(self, tmp_path: Path) -> None:
        ended = call("list", tmp_path)
        assert ended.status == 4 and "format 1" not in ended.err


class TestSalvage:
    def test_past_a_broken_tar_header(self, raw: Path, tmp_path: Path) -> None:
        with tarfile.open(raw, ignore_zeros=True) as outer:
            place = outer.getmember("vm1/firewall.xml.000").offset
        data = bytearray(raw.read_bytes())
        data[place : place + 400] = bytes(400)
        (tmp_path / "backup").write_bytes(data)
        with opened(tmp_path / "backup", salvage=True) as archive:
            report = archive.restore(tmp_path / "out", check=False)
        assert report.errors and not report.ok
        assert (tmp_path / "out/work/private.img").read_bytes() == NOISE

    def test_a_whole_backup_is_whole(self, raw: Path) -> None:
        with opened(raw, salvage=True) as archive:
            assert archive.verify().ok and archive.salvaged == ()

    @pytest.mark.parametrize("number", [0, 2, 5])
    def test_two_copies_of_one_backup_make_a_whole_one(
        self, raw: Path, tmp_path: Path, number: int
    ) -> None:
        """Each chunk comes from the copy in which it is what its HMAC proves."""
        path, name = tmp_path / "backup", f"vm1/private.img.{number:03d}"
        with tarfile.open(raw, ignore_zeros=True) as outer:
            place = outer.getmember(name).offset_data
        data = bytearray(raw.read_bytes())
        data[place + 50] ^= 1
        path.write_bytes(data + raw.read_bytes())
        with opened(path, salvage=True) as archive:
            archive.restore(tmp_path / "out", check=False)
            assert any(name in text for text in archive.salvaged)
        assert (tmp_path / "out/work/private.img").read_bytes() == NOISE
        with opened(path, salvage=True) as archive, opened(raw) as sound:
            chunks = archive.file("work/private.img").chunks
            expected = sound.file("work/private.img").chunks
            assert [c.open().read() for c in chunks] == [c.open().read() for c in expected]

    @pytest.mark.parametrize("number", [0, 4])
    def test_of_two_copies_each_may_have_a_damaged_hmac(
        self, raw: Path, tmp_path: Path, number: int
    ) -> None:
        """In the second one the HMAC is damaged; in the first, another chunk's, and a chunk."""
        path, name = tmp_path / "backup", "vm1/private.img.{:03d}"
        with tarfile.open(raw, ignore_zeros=True) as outer:
            hmac = outer.getmember(f"{name.format(number)}.hmac").offset_data
            other = outer.getmember(f"{name.format(3)}.hmac").offset_data
            chunk = outer.getmember(name.format(2)).offset_data
        first, second = bytearray(raw.read_bytes()), bytearray(raw.read_bytes())
        first[hmac + 20] ^= 1
        first[chunk + 50] ^= 1
        second[other + 20] ^= 1
        path.write_bytes(first + second)
        with opened(path, salvage=True) as archive:
            with archive.open("work/private.img") as stream:
                assert stream.read() == NOISE
            assert any(name.format(number) in text for text in archive.salvaged)

    def test_without_a_header_files_of_several_chunks_come_out(
        self, make: Make, tmp_path: Path
    ) -> None:
        """The second chunk shows that it is no volume of format 2."""
        maker = make(chunk_size=16 * KIB)
        maker.add_qube("work", files={"private.img": NOISE, "firewall.xml": b"<firewall/>"})
        path = assemble(rename(maker.members(), "backup-header", "header"), tmp_path / "backup")
        with pytest.raises(WrongPassphrase):
            qbackup.open(path, passphrase="guess", salvage=True)
        with opened(path, salvage=True) as archive:
            report = archive.restore(tmp_path / "out", check=False)
            assert archive.header.version == 3
        assert not report.ok and any("the header is missing" in text for text in report.errors)
        assert (tmp_path / "out/work/firewall.xml").read_bytes() == b"<firewall/>"
        assert (tmp_path / "out/work/private.img").read_bytes() == NOISE


class TestSecret:
    def test_no_object_shows_it(self, raw: Path) -> None:
        with opened(raw) as archive:
            format_ = inside(archive).unlocked().format
            opener = format_.file()
            locked = opener.parse_head("vm1/private.img.000", 0, b"")
            shown = [archive, inside(archive).format, archive.header, format_, opener, locked]
        assert SECRET not in " ".join(repr(thing) for thing in shown)


class TestTheHouse:
    @pytest.mark.parametrize("path", sorted(FORMATS.glob("*.py")), ids=lambda path: path.name)
    def test_formats_do_no_input_nor_output(self, path: Path) -> None:
        imported = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module or "")
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("open", "print", "input")
        forbidden = {"os", "io", "sys", "threading", "pathlib", "subprocess", "socket", "time"}
        assert not {name.partition(".")[0] for name in imported} & forbidden
        layers = {"source", "container", "pipeline", "chunk", "archive", "restore", "file"}
        assert not {n.split(".")[1] for n in imported if n.startswith("qbackup.")} & layers

    def test_a_version_without_a_row_is_refused(self) -> None:
        with pytest.raises(UnsupportedFormat, match="format 5"):
            choose_format(5)
