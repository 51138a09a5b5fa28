"""What an accident or an attacker does to a backup of format 3, in the manner of `test_damage`.

An HMAC proves one chunk's stored bytes and nothing else, so what is found by numbers, inner names,
filters and the ends of streams is tried too, and what can't be found is said in a test of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import qbackup
from qbackup import Incomplete, Report
from tests.maker import (
    Format3Maker,
    Member,
    append_bytes,
    assemble,
    cut,
    drop,
    extend,
    flip_byte,
    forged_archive,
    get,
    rename,
    replace,
    swap,
)
from tests.support.damagekit import CHUNK, FILES, KIB, Kit, Members, Outcome, noise
from tests.support.restored import content, errors, of_tree, snapshot, statuses
from tests.support.sources import piped
from tests.support.speed import rows, spread

NAMES = {
    "vm1/private.img": "work/private.img",
    "vm1/firewall.xml": "work/firewall.xml",
    "vm2/private.img": "vault/private.img",
    "vm2/notes.txt": "vault/notes.txt",
    "dom0-home/user": "dom0/user",
}
# Kinds of chunk: (path in the archive, which of its chunks).
KINDS = {
    "first of an image": ("vm1/private.img", 0),
    "middle of an image": ("vm1/private.img", 2),
    "last of an image": ("vm1/private.img", -1),
    "the only one": ("vm1/firewall.xml", 0),
    "of a home": ("dom0-home/user", 1),
}
WAYS = {
    "encrypted and compressed, from a file": (True, "gzip", False),
    "encrypted and raw, from a pipe": (True, None, True),
    "plain and raw, from a file": (False, None, False),
    "plain and compressed, from a pipe": (False, "gzip", True),
}


def make_kit(folder: Path, encrypted: bool, compression_filter: str | None, **options: Any) -> Kit:
    maker = Format3Maker(
        folder / "maker",
        encrypted=encrypted,
        compression_filter=compression_filter,
        chunk_size=CHUNK,
        **options,
    )
    home = folder / "user"
    (home / "sub").mkdir(parents=True)
    (home / "sub/file").write_bytes(noise(18 * KIB))
    (home / "link").symlink_to("sub/file")
    for qube in ("work", "vault"):
        files = {name: data for (owner, name), data in FILES.items() if owner == qube}
        maker.add_qube(qube, files=files)
    maker.add_home("user", home)
    maker.members()
    return Kit(maker, home)


@pytest.fixture(scope="module", params=spread([*WAYS.values()], quick=2), ids=list(WAYS))
def kit(
    tools: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Kit:
    encrypted, compression_filter, from_pipe = request.param
    made = make_kit(tmp_path_factory.mktemp("damage"), encrypted, compression_filter)
    made.piped = from_pipe
    return made


@pytest.fixture(autouse=True)
def cheap_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second less for each restore."""
    cheap = qbackup.ScryptParameters(10, 8, 1)
    monkeypatch.setattr("qbackup.formats.v3.JOURNAL_COST", cheap)


@pytest.fixture
def restore(kit: Kit, tmp_path: Path) -> Callable[..., Report]:
    """Restores members, or a path, into `tmp_path/out`."""

    def run(source: Members | Path, names: Sequence[str] = ()) -> Report:
        path = source if isinstance(source, Path) else kit.assemble(source, tmp_path / "backup")
        with contextlib.ExitStack() as stack:
            way: Any = stack.enter_context(piped(path)) if kit.piped else path
            archive = stack.enter_context(qbackup.open(way, passphrase=kit.maker.passphrase))
            try:
                report = archive.restore(tmp_path / "out", names)
            except Incomplete as incomplete:
                report = incomplete.report
                assert not report.ok
            else:
                assert report.ok
            return report

    return run


@pytest.fixture
def after(
    kit: Kit, restore: Callable[..., Report], tmp_path: Path
) -> Callable[[Members | Path], Outcome]:
    return lambda source: Outcome(kit, restore(source), tmp_path / "out")


def chunks(kit: Kit, path: str) -> list[str]:
    """Names of a file's chunks, whose folders are the qubes' own where nothing is encrypted."""
    folder, slash, file = path.partition("/")
    if folder.startswith("vm"):
        folder = kit.maker.qubes[int(folder[2:]) - 1].subdir.rstrip("/")
    return kit.chunks(folder + slash + file)


def is_padding(kit: Kit, data: bytes) -> bool:
    """Nothing but tar's zeros, which can go unseen: the file is whole without them."""
    maker = kit.maker
    assert isinstance(maker, Format3Maker)
    return not maker.encrypted and not data.strip(b"\0")


def pairs(names: Sequence[str]) -> list[str]:
    """Chunks and their HMACs."""
    return [*names, *(f"{name}.hmac" for name in names)]


def chunk_of(kit: Kit, kind: str) -> tuple[str, str]:
    """(member, name in the report) of a kind of chunk."""
    path, which = KINDS[kind]
    return chunks(kit, path)[which], NAMES[path]


def with_proof(kit: Kit, members: Members, name: str, data: bytes) -> Members:
    """Another content, with an HMAC that fits: by somebody who knows the passphrase."""
    members = replace(members, name, data)
    maker = kit.maker
    assert isinstance(maker, Format3Maker)
    path = get(members, name).path
    proof = maker.hmac(Member(name, path)).path.read_bytes()
    return replace(members, f"{name}.hmac", proof)


class TestNothingIsWrong:
    def test_the_whole_backup_is_restored(
        self, kit: Kit, restore: Callable[..., Report], tmp_path: Path
    ) -> None:
        report = restore(kit.members)
        assert statuses(report) == dict.fromkeys(kit.names(), "ok")
        assert report.warnings == () and report.errors == ()
        assert snapshot(tmp_path / "out") == kit.whole()


@rows("kind", KINDS, quick=2)
class TestOneChunk:
    @rows("offset", [0, 5, 12, 16, 100, -17, -1], quick=2)
    def test_a_flipped_byte_costs_its_file_only(
        self, kit: Kit, after: Callable[..., Outcome], kind: str, offset: int
    ) -> None:
        chunk, name = chunk_of(kit, kind)
        outcome = after(flip_byte(kit.members, chunk, offset))
        outcome.lost("damaged", name, says="was altered", chunk=chunk)

    @pytest.mark.parametrize("offset", [0, 20, -2])
    def test_a_flipped_byte_of_its_hmac_too(
        self, kit: Kit, after: Callable[..., Outcome], kind: str, offset: int
    ) -> None:
        chunk, name = chunk_of(kit, kind)
        after(flip_byte(kit.members, f"{chunk}.hmac", offset)).lost(
            "damaged", name, says="HMAC", chunk=chunk
        )

    @rows("proof", [b"", b"(stdin)= ", b"(stdin)= 00", b"x" * 4096], quick=2)
    def test_an_hmac_that_is_none(
        self, kit: Kit, after: Callable[..., Outcome], kind: str, proof: bytes
    ) -> None:
        chunk, name = chunk_of(kit, kind)
        after(replace(kit.members, f"{chunk}.hmac", proof)).lost(
            "damaged", name, says="HMAC", chunk=chunk
        )

    def test_an_hmac_of_4097_bytes(
        self, kit: Kit, after: Callable[..., Outcome], kind: str
    ) -> None:
        """It is the right one, with spaces behind it."""
        chunk, name = chunk_of(kit, kind)
        right = get(kit.members, f"{chunk}.hmac").path.read_bytes()
        outcome = after(replace(kit.members, f"{chunk}.hmac", right.ljust(4097)))
        outcome.lost("damaged", name, says="has 4097 bytes", chunk=chunk)

    def test_with_its_hmac_under_another_name(
        self, kit: Kit, after: Callable[..., Outcome], kind: str
    ) -> None:
        chunk, name = chunk_of(kit, kind)
        outcome = after(rename(kit.members, f"{chunk}.hmac", "vm7/private.img.000.hmac"))
        outcome.lost("damaged", name, says="HMAC is missing", chunk=chunk)

    def test_without_its_hmac(self, kit: Kit, after: Callable[..., Outcome], kind: str) -> None:
        chunk, name = chunk_of(kit, kind)
        outcome = after(drop(kit.members, f"{chunk}.hmac"))
        outcome.lost("damaged", name, says="HMAC is missing", chunk=chunk)

    def test_with_the_hmac_of_another(
        self, kit: Kit, after: Callable[..., Outcome], kind: str
    ) -> None:
        chunk, name = chunk_of(kit, kind)
        other = get(kit.members, f"{chunks(kit, 'vm2/notes.txt')[0]}.hmac")
        outcome = after(replace(kit.members, f"{chunk}.hmac", other))
        outcome.lost("damaged", name, says="the HMAC differs", chunk=chunk)

    @rows("size", [0, 8, 16, -1, -16], quick=2)
    def test_cut_short(self, kit: Kit, after: Callable[..., Outcome], kind: str, size: int) -> None:
        chunk, name = chunk_of(kit, kind)
        after(cut(kit.members, chunk, size)).lost("damaged", name, chunk=chunk)

    @pytest.mark.parametrize("tail", [b"\0", bytes(16)])
    def test_with_bytes_behind_it(
        self, kit: Kit, after: Callable[..., Outcome], kind: str, tail: bytes
    ) -> None:
        chunk, name = chunk_of(kit, kind)
        after(extend(kit.members, chunk, tail)).lost("damaged", name, chunk=chunk)

    def test_made_with_another_passphrase(
        self, kit: Kit, after: Callable[..., Outcome], kind: str, tmp_path: Path
    ) -> None:
        chunk, name = chunk_of(kit, kind)
        maker = kit.maker
        assert isinstance(maker, Format3Maker)
        other = make_kit(tmp_path, maker.encrypted, maker.compression_filter, passphrase="guess")
        members = replace(kit.members, chunk, get(other.members, chunk))
        members = replace(members, f"{chunk}.hmac", get(other.members, f"{chunk}.hmac"))
        after(members).lost("damaged", name, says="the HMAC differs", chunk=chunk)

    def test_missing_with_its_hmac(
        self, kit: Kit, restore: Callable[..., Report], kind: str, tmp_path: Path
    ) -> None:
        chunk, name = chunk_of(kit, kind)
        was_padding = is_padding(kit, get(kit.members, chunk).path.read_bytes())
        is_optional = len(chunks(kit, KINDS[kind][0])) == 1
        report = restore(drop(kit.members, chunk, f"{chunk}.hmac"))
        left = {k: v for k, v in kit.whole().items() if not f"{k}/".startswith(f"{name}/")}
        if was_padding:
            assert KINDS[kind][1] == -1
            assert report.ok and snapshot(tmp_path / "out") == kit.whole()
            return
        assert snapshot(tmp_path / "out") == left
        if is_optional:  # nothing says that there was one, in no format
            assert report.ok
            return
        assert set(errors(report)) == {name}
        assert statuses(report)[name] == "damaged"

    def test_doubled_with_another_content_behind_it(
        self, kit: Kit, restore: Callable[..., Report], kind: str, tmp_path: Path
    ) -> None:
        chunk, _ = chunk_of(kit, kind)
        members = kit.members
        place = members.index(get(members, f"{chunk}.hmac")) + 1
        false = [get(flip_byte(members, chunk, 3), chunk), get(members, f"{chunk}.hmac")]
        report = restore([*members[:place], *false, *members[place:]])
        assert report.ok  # a name twice: the first one counts
        assert any(chunk in text and "twice" in text for text in report.warnings)
        assert snapshot(tmp_path / "out") == kit.whole()

    def test_doubled_with_another_content_before_it(
        self, kit: Kit, after: Callable[..., Outcome], kind: str
    ) -> None:
        chunk, name = chunk_of(kit, kind)
        members = kit.members
        place = members.index(get(members, chunk))
        false = get(flip_byte(members, chunk, 3), chunk)
        after([*members[:place], false, *members[place:]]).lost("damaged", name, chunk=chunk)


class TestOrder:
    def moved(self, members: Members, first: str, second: str) -> Members:
        """Contents and HMACs exchanged, which whoever has the backup can do."""
        return swap(swap(members, first, second), f"{first}.hmac", f"{second}.hmac")

    def test_the_first_chunks_of_two_files(self, kit: Kit, after: Callable[..., Outcome]) -> None:
        """The inner name is the other file's."""
        first, second = chunks(kit, "vm1/private.img")[0], chunks(kit, "vm2/private.img")[0]
        outcome = after(self.moved(kit.members, first, second))
        outcome.lost("damaged", "work/private.img", "vault/private.img")

    def test_two_small_files(self, kit: Kit, after: Callable[..., Outcome]) -> None:
        first, second = chunks(kit, "vm1/firewall.xml")[0], chunks(kit, "vm2/notes.txt")[0]
        outcome = after(self.moved(kit.members, first, second))
        outcome.lost("damaged", "work/firewall.xml", "vault/notes.txt", says="another file")

    def test_the_last_chunk_of_a_file_and_one_before(
        self, kit: Kit, after: Callable[..., Outcome]
    ) -> None:
        *_, before, last = chunks(kit, "vm1/private.img")
        after(self.moved(kit.members, before, last)).lost("damaged", "work/private.img")

    def test_the_first_chunk_and_the_second(self, kit: Kit, after: Callable[..., Outcome]) -> None:
        first, second, *_ = chunks(kit, "vm1/private.img")
        after(self.moved(kit.members, first, second)).lost("damaged", "work/private.img")

    def test_two_chunks_in_the_middle_are_seen_where_the_stream_shows_it(
        self, kit: Kit, restore: Callable[..., Report], tmp_path: Path
    ) -> None:
        """What no program can see, said in docs/security.md: in an uncompressed image nothing
        says which of two chunks comes first.
        """
        _, first, second, *_ = chunks(kit, "vm1/private.img")
        report = restore(self.moved(kit.members, first, second))
        maker = kit.maker
        assert isinstance(maker, Format3Maker)
        if maker.compression_filter:
            assert statuses(report)["work/private.img"] == "damaged"
        else:
            assert report.ok
            restored = (tmp_path / "out/work/private.img").read_bytes()
            assert restored != FILES["work", "private.img"]

    def test_an_hmac_before_its_chunk(
        self, kit: Kit, restore: Callable[..., Report], tmp_path: Path
    ) -> None:
        chunk = chunks(kit, "vm1/private.img")[1]
        members = kit.members
        place = members.index(get(members, chunk))
        members[place : place + 2] = [members[place + 1], members[place]]
        report = restore(members)
        if kit.piped:
            assert "HMAC is missing" in errors(report)["work/private.img"]
            assert set(errors(report)) == {"work/private.img"}
        else:
            assert report.ok and snapshot(tmp_path / "out") == kit.whole()

    def test_strangers_between_a_chunk_and_its_hmac(
        self, kit: Kit, restore: Callable[..., Report], tmp_path: Path
    ) -> None:
        path = kit.assemble(kit.members, tmp_path / "backup")
        chunk = chunks(kit, "vm1/private.img")[1]
        data = path.read_bytes()
        stored = get(kit.members, chunk).path.read_bytes()
        stranger = forged_archive("stranger", b"x") + forged_archive("vm9/a.000.hmac", b"= 00")
        place = data.index(stored) + len(stored) + 2 * 512  # the zero blocks behind it
        place += -place % (10 * KIB)
        path.write_bytes(data[:place] + stranger + data[place:])
        report = restore(path)
        if kit.piped:
            assert set(errors(report)) == {"work/private.img"}
        else:
            assert report.ok
        assert any("stranger" in text for text in report.warnings)

    def test_all_in_another_order_from_a_file(self, kit: Kit, tmp_path: Path) -> None:
        header, proof, *rest = kit.members
        path = kit.assemble([header, proof, *reversed(rest)], tmp_path / "backup")
        with qbackup.open(path, passphrase=kit.maker.passphrase) as archive:
            assert archive.restore(tmp_path / "out").ok
        assert snapshot(tmp_path / "out") == kit.whole()

    def test_all_in_another_order_never_pass_for_whole_on_a_pipe(
        self, kit: Kit, tmp_path: Path
    ) -> None:
        header, proof, *rest = kit.members
        path = kit.assemble([header, proof, *reversed(rest)], tmp_path / "backup")
        with piped(path) as pipe, qbackup.open(pipe, passphrase=kit.maker.passphrase) as archive:
            assert not archive.verify(check=False).ok

    def test_a_renamed_file(self, kit: Kit, restore: Callable[..., Report]) -> None:
        """Its HMACs hold, its inner name does not."""
        members = kit.members
        for old in pairs(chunks(kit, "vm1/firewall.xml")):
            members = rename(members, old, old.replace("firewall.xml", "icon.png"))
        report = restore(members)
        assert "another file" in errors(report)["work/icon.png"]
        assert set(errors(report)) == {"work/icon.png"}

    def test_numbers_that_do_not_begin_at_zero(
        self, kit: Kit, after: Callable[..., Outcome]
    ) -> None:
        members = kit.members
        for old in reversed(pairs(chunks(kit, "vm1/firewall.xml"))):
            members = rename(members, old, old.replace(".00", ".01"))
        after(members).lost("damaged", "work/firewall.xml", says="missing")


class TestTheEnd:
    @pytest.mark.parametrize("path", ["vm1/private.img", "vm1/firewall.xml", "dom0-home/user"])
    def test_a_last_chunk_that_is_shorter_and_authentic(
        self, kit: Kit, restore: Callable[..., Report], tmp_path: Path, path: str
    ) -> None:
        """Whoever made it knew the passphrase: filter, archive or padding still show it."""
        chunk = chunks(kit, path)[-1]
        data = get(kit.members, chunk).path.read_bytes()
        left = len(data) * 3 // 4
        report = restore(with_proof(kit, kit.members, chunk, data[:left]))
        if is_padding(kit, data[left:]):
            assert report.ok and snapshot(tmp_path / "out") == kit.whole()
        else:
            assert set(errors(report)) == {NAMES[path]}
            assert statuses(report)[NAMES[path]] == "damaged"

    def test_an_authentic_chunk_behind_the_end(
        self, kit: Kit, after: Callable[..., Outcome]
    ) -> None:
        last = chunks(kit, "vm1/private.img")[-1]
        stem, _, number = last.rpartition(".")
        more = f"{stem}.{int(number) + 1:03d}"
        members = kit.members
        place = members.index(get(members, f"{last}.hmac")) + 1
        added = [
            Member(more, get(members, chunks(kit, "vm2/notes.txt")[0]).path),
            Member(f"{more}.hmac", get(members, f"{chunks(kit, 'vm2/notes.txt')[0]}.hmac").path),
        ]
        report = after([*members[:place], *added, *members[place:]]).report
        assert report.ok, errors(report)  # the image lacks nothing
        assert any("beyond the verified end of work/private.img" in t for t in report.warnings)

    @pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
    def test_a_cut_file(
        self, kit: Kit, restore: Callable[..., Report], tmp_path: Path, share: float
    ) -> None:
        path = kit.assemble(kit.members, tmp_path / "backup")
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        report = restore(path)
        assert not report.ok and report.errors
        whole = kit.whole()
        found = snapshot(tmp_path / "out")
        assert all(whole[name] == what for name, what in found.items())
        good = {name for name, status in statuses(report).items() if status == "ok"}
        assert {n for n in found if not n.startswith("dom0/")} == good - {"dom0/user"}

    def test_bytes_behind_the_archive(
        self, kit: Kit, restore: Callable[..., Report], tmp_path: Path
    ) -> None:
        path = append_bytes(kit.assemble(kit.members, tmp_path / "backup"), b"x" * 512)
        report = restore(path)
        assert report.errors and not report.bad
        assert snapshot(tmp_path / "out") == kit.whole()


class TestQubesXml:
    @pytest.mark.parametrize("how", ["flipped", "without its HMAC", "missing"])
    def test_damaged(
        self, kit: Kit, restore: Callable[..., Report], tmp_path: Path, how: str
    ) -> None:
        """Files then come out by their path, and the status is 1."""
        members = {
            "flipped": lambda: flip_byte(kit.members, "qubes.xml.000", 30),
            "without its HMAC": lambda: drop(kit.members, "qubes.xml.000.hmac"),
            "missing": lambda: drop(kit.members, *pairs(kit.chunks("qubes.xml"))),
        }[how]()
        report = restore(members)
        expected = "missing" if how == "missing" else "damaged"
        assert statuses(report)["qubes.xml"] == expected
        found = snapshot(tmp_path / "out")
        assert content(FILES["work", "private.img"]) in found.values()
        assert of_tree("dom0/user", kit.home).items() <= found.items()


class TestVerify:
    def test_names_every_lost_chunk(self, kit: Kit, tmp_path: Path) -> None:
        first, second = (chunks(kit, "vm1/private.img")[i] for i in (1, 3))
        members = drop(flip_byte(kit.members, first, 9), second, f"{second}.hmac")
        path = kit.assemble(members, tmp_path / "backup")
        with qbackup.open(path, passphrase=kit.maker.passphrase) as archive:
            (bad,) = archive.verify(check=False).bad
        assert [text.partition(":")[0] for text in bad.lost_chunks] == [first, second]


class TestKeepDamaged:
    """In an uncompressed image all but the lost bytes stand in their places."""

    IMAGE = FILES["work", "private.img"]
    HEADER = 512  # of the inner archive

    @rows("lost", [(1,), (2,), (2, 3), (1, 3), (4,)])
    @rows("how", ["flipped", "missing"], quick=2)
    @rows("cipher", ["aes-256-cbc", "des-ede3-cbc", None], quick=2)
    def test_what_is_lost_is_told_to_the_byte(
        self, tools: None, tmp_path: Path, cipher: str | None, how: str, lost: tuple[int, ...]
    ) -> None:
        kit = make_kit(tmp_path, cipher is not None, None, cipher=cipher or "aes-256-cbc")
        members = kit.members
        for index in lost:
            name = chunks(kit, "vm1/private.img")[index]
            gone = how == "missing"
            members = drop(members, name, f"{name}.hmac") if gone else flip_byte(members, name, 7)
        path = assemble(members, tmp_path / "backup")
        with qbackup.open(path, passphrase=kit.maker.passphrase) as archive:
            report = archive.restore(tmp_path / "out", keep_damaged=True, check=False)
        (bad,) = report.bad
        assert bad.kept_as == "private.img.damaged"
        kept = (tmp_path / "out/work/private.img.damaged").read_bytes()
        assert len(kept) == len(self.IMAGE)
        position = 0
        for part in bad.ranges:
            assert part.start == position and part.end is not None
            position = part.end
            there = self.IMAGE[part.start : part.end]
            there = there if part.state == "good" else bytes(len(there))
            assert kept[part.start : part.end] == there
        spans = [(r.start, r.end) for r in bad.ranges if r.state != "good"]
        assert spans == self.expected(
            lost, {"aes-256-cbc": 16, "des-ede3-cbc": 8}.get(cipher or "")
        )

    def expected(self, lost: tuple[int, ...], block: int | None) -> list[tuple[int, int]]:
        """Each lost chunk; encrypted also the block before it, and the first one behind it."""
        spans: list[tuple[int, int]] = []
        for index in lost:
            start, end = index * CHUNK - self.HEADER, (index + 1) * CHUNK - self.HEADER
            if block is not None:  # the salt stands before all
                start, end = start - 16 - block, end - 16 + block
            if spans and start <= spans[-1][1]:
                start = spans.pop()[0]
            spans.append((start, min(end, len(self.IMAGE))))
        return spans

    @pytest.mark.slow
    def test_without_the_first_chunk_nothing_can_be_decrypted(
        self, tools: None, tmp_path: Path
    ) -> None:
        kit = make_kit(tmp_path, True, None)
        path = assemble(flip_byte(kit.members, "vm1/private.img.000", 99), tmp_path / "backup")
        with qbackup.open(path, passphrase=kit.maker.passphrase) as archive:
            report = archive.restore(tmp_path / "out", keep_damaged=True, check=False)
        (bad,) = report.bad
        assert bad.kept_as is None and len(bad.lost_chunks) == 7
        assert "salt" in bad.lost_chunks[1]
        assert not (tmp_path / "out/work/private.img.damaged").exists()

    @pytest.mark.slow
    def test_chunks_that_are_no_whole_blocks(self, tools: None, tmp_path: Path) -> None:
        """Behind a lost one nobody knows where a block begins."""
        maker = Format3Maker(tmp_path / "maker", compression_filter=None, chunk_size=1000)
        maker.add_qube("work", files={"private.img": self.IMAGE})
        path = assemble(flip_byte(maker.members(), "vm1/private.img.005", 9), tmp_path / "backup")
        with qbackup.open(path, passphrase=maker.passphrase) as archive:
            report = archive.restore(tmp_path / "out", keep_damaged=True, check=False)
        (bad,) = report.bad
        kept = (tmp_path / "out/work/private.img.damaged").read_bytes()
        assert [r.state for r in bad.ranges] == ["good", "zero-filled"]
        end = bad.ranges[0].end or 0
        assert end > 4000 and kept == self.IMAGE[:end] + bytes(len(self.IMAGE) - end)

    @pytest.mark.slow
    def test_of_a_compressed_image_all_up_to_the_first_lost_chunk(
        self, tools: None, tmp_path: Path
    ) -> None:
        kit = make_kit(tmp_path, True, "gzip")
        path = assemble(flip_byte(kit.members, "vm1/private.img.002", 9), tmp_path / "backup")
        with qbackup.open(path, passphrase=kit.maker.passphrase) as archive:
            report = archive.restore(tmp_path / "out", keep_damaged=True, check=False)
        (bad,) = report.bad
        end = bad.ranges[0].end or 0
        assert [r.state for r in bad.ranges] == ["good", "zero-filled"]
        assert CHUNK < end < 3 * CHUNK
        kept = (tmp_path / "out/work/private.img.damaged").read_bytes()
        assert kept == self.IMAGE[:end] + bytes(len(self.IMAGE) - end)
