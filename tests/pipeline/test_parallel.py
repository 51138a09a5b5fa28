"""Several files unpacked side by side give what one after the other does, and end as one."""

from __future__ import annotations

import contextlib
import itertools
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

import qbackup
from qbackup import BackupArchive, Incomplete, Progress
from qbackup.base.errors import MachineError
from qbackup.pipeline.parallel import ParallelFiles, Shared
from qbackup.pipeline.pipeline import Pipeline
from qbackup.pipeline.session import Session
from qbackup.restore.output.writer import FolderWriter
from tests.conftest import MakerFactory
from tests.maker.collected import PASSPHRASE
from tests.support import alter, librarybackup, restored
from tests.support.atrest import check_at_rest, threads
from tests.support.commandline import SAMPLE, SAMPLE_FILE, finish, start, wait_for
from tests.support.inside import inside
from tests.support.restored import files_below
from tests.support.slowruns import BEFORE_VAULT, small_disk, wait_for_derivation
from tests.support.sources import piped
from tests.support.speed import rows

__all__ = ["small_disk"]

Opener = Callable[..., BackupArchive]
FILES = 9


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Opens backups with eight jobs, so four files at once; at the end, also of a failed restore,
    nothing is charged and no thread goes on.
    """
    made: list[BackupArchive] = []

    def make(
        path: Path | BinaryIO, passphrase: str = librarybackup.PASSPHRASE, jobs: int = 8
    ) -> BackupArchive:
        made.append(qbackup.open(path, passphrase=passphrase, jobs=jobs))
        return made[-1]

    yield make
    for archive in made:
        archive.close()
        check_at_rest(inside(archive).pipeline._pool)


@pytest.fixture
def many(maker: MakerFactory, tmp_path: Path) -> Path:
    """Nine qubes with an image of a few chunks each, all over the same size."""
    backup = maker(compression_filter=None, chunk_size=16 << 10)
    for number in range(FILES):
        data = bytes([number + 1]) * (100 << 10)
        backup.add_qube(f"q{number}", files={"private.img": data, "firewall.xml": b"<firewall/>"})
    return backup.write(tmp_path / "many")


DAMAGES: dict[str, Callable[[Path, Path], Path]] = {
    "whole": lambda path, out: path,
    "a chunk": lambda path, out: alter.flipped(path, out, "vm1/text.001.enc"),
    "two files": lambda path, out: alter.flipped(
        alter.flipped(path, out.with_suffix(".1"), "vm2/private.img.000.enc", 20),
        out,
        "vm1/archive.tar.003.enc",
    ),
    "a missing chunk": lambda path, out: alter.without(path, out, "vm1/text.001.enc"),
    "a missing file": lambda path, out: alter.without(path, out, "vm1/empty.000.enc"),
    "cut": lambda path, out: alter.cut(path, out, "vm2/private.img.002.enc", 100),
    "absurd parameters": lambda path, out: alter.with_parameters(
        path, out, "vm1/text.002.enc", 30, 8, 1
    ),
    "another archive behind": lambda path, out: alter.extended(path, out, b"x" * 10_240),
}


class TestTheSame:
    @rows("damage", DAMAGES)
    def test_report_and_files(
        self, made: librarybackup.Made, opened: Opener, tmp_path: Path, damage: str
    ) -> None:
        path = DAMAGES[damage](made.path, tmp_path / "damaged")
        reports, snapshots = [], []
        for jobs in (1, 8):
            archive = opened(path, jobs=jobs)
            reports.append(archive.restore(tmp_path / f"{jobs}", check=False))
            snapshots.append(restored.snapshot(tmp_path / f"{jobs}", folders=True))
            assert archive.verify(check=False).ok == (damage == "whole")
        assert reports[0] == reports[1]
        assert snapshots[0] == snapshots[1]
        assert reports[0].ok == (damage == "whole")

    @pytest.mark.slow
    def test_results_are_in_the_archive_s_order(self, many: Path, opened: Opener) -> None:
        report = opened(many, PASSPHRASE).verify()
        names = [f"q{n}/{name}" for n in range(FILES) for name in ("private.img", "firewall.xml")]
        assert list(restored.statuses(report)) == ["qubes.xml", *names]

    def test_incomplete_is_raised_at_the_end(
        self, made: librarybackup.Made, opened: Opener, tmp_path: Path
    ) -> None:
        path = alter.flipped(made.path, tmp_path / "b", "vm1/text.001.enc")
        with pytest.raises(Incomplete) as raised:
            opened(path).restore(tmp_path / "out")
        assert restored.errors(raised.value.report).keys() == {"personal/text"}

    @pytest.mark.slow
    def test_some_files_only(self, many: Path, opened: Opener, tmp_path: Path) -> None:
        assert opened(many, PASSPHRASE).restore(tmp_path, ["q3", "q7/private.img"]).ok
        assert files_below(tmp_path) >= {
            "q3/firewall.xml",
            "q3/private.img",
            "q7/private.img",
            "qubes.xml",
        }
        assert not (tmp_path / "q4").exists()

    @pytest.mark.slow
    def test_again_what_is_there_is_kept(self, many: Path, opened: Opener, tmp_path: Path) -> None:
        archive = opened(many, PASSPHRASE)
        out = tmp_path / "out"
        assert archive.restore(out).ok
        (out / "q3/private.img").write_bytes(b"changed")
        report = archive.restore(out, check=False)
        assert set(restored.statuses(report).values()) == {"kept", "exists"}
        assert list(restored.errors(report)) == ["q3/private.img"]
        assert archive.restore(out, overwrite=True).ok


class TestProgress:
    @pytest.mark.slow
    def test_comes_on_the_caller_s_thread_and_only_grows(self, many: Path, opened: Opener) -> None:
        told: list[Progress] = []
        callers: set[threading.Thread] = set()

        def tell(progress: Progress) -> None:
            callers.add(threading.current_thread())
            told.append(progress)

        opened(many, PASSPHRASE).verify(progress=tell)
        assert callers == {threading.current_thread()}
        done = [progress.done for progress in told]
        assert done == sorted(done)
        assert done[-1] == told[-1].total
        assert len({progress.file for progress in told}) == 2 * FILES

    @pytest.mark.slow
    def test_files_are_under_way_at_the_same_time(
        self, many: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Four files for eight jobs: none ends before four have begun."""
        barrier = threading.Barrier(4)
        put = ParallelFiles._put
        met = threading.local()

        def put_together(self: ParallelFiles[object, object], message: object) -> None:
            if not hasattr(met, "done"):
                met.done = True
                barrier.wait(60)
            put(self, message)

        monkeypatch.setattr(ParallelFiles, "_put", put_together)
        assert opened(many, PASSPHRASE).verify().ok


class TestEnds:
    @pytest.mark.slow
    @pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt(), SystemExit(3)])
    @pytest.mark.parametrize("after", [0, 5, 20])
    def test_what_the_callback_raises_ends_everything(
        self, many: Path, opened: Opener, tmp_path: Path, error: BaseException, after: int
    ) -> None:
        archive = opened(many, PASSPHRASE)
        told: list[Progress] = []

        def fail(progress: Progress) -> None:
            told.append(progress)
            if len(told) > after:
                raise error

        with pytest.raises(type(error)) as raised:
            archive.restore(tmp_path / "out", progress=fail)
        assert raised.value is error
        assert len(told) == after + 1
        wait_for(lambda: "qbackup-line" not in threads())
        check_no_half_written_file(tmp_path / "out")
        # it is as good as new
        assert archive.restore(tmp_path / "again").ok

    def test_a_disk_that_fills_up_ends_everything_with_a_report(
        self, small_disk: Path, maker: MakerFactory, opened: Opener, tmp_path: Path
    ) -> None:
        backup = maker()
        for number in range(6):
            backup.add_qube(f"q{number}", files={"private.img": b"x" * (1 << 20)})
        archive = opened(backup.write(tmp_path / "b"), PASSPHRASE)
        with pytest.raises(MachineError, match="No space left") as raised:
            archive.restore(small_disk / "out")
        report = raised.value.report
        assert report is not None
        assert set(restored.statuses(report).values()) == {"ok"}
        wait_for(lambda: "qbackup-line" not in threads())
        there = files_below(small_disk / "out")
        assert {name for name in there if name.endswith(".part")} == set()
        assert set(restored.statuses(report)) <= there

    @pytest.mark.slow
    def test_an_archive_closed_meanwhile(self, many: Path, opened: Opener, tmp_path: Path) -> None:
        archive = opened(many, PASSPHRASE)
        with pytest.raises(qbackup.QBackupError, match="closed"):
            archive.restore(tmp_path / "out", progress=lambda progress: archive.close())
        wait_for(lambda: "qbackup-line" not in threads())
        check_no_half_written_file(tmp_path / "out")

    @pytest.mark.slow
    def test_a_line_that_can_not_be_started_leaves_the_work_to_the_others(
        self, many: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refuse(monkeypatch, "qbackup-line", allowed=1)
        assert opened(many, PASSPHRASE).verify().ok

    @rows("begun", [1, 2, 3], quick=1)
    def test_a_line_that_runs_though_its_start_failed_takes_no_file(
        self, many: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch, begun: int
    ) -> None:
        """Memory can run out between the thread's start and the report of it."""
        refuse(monkeypatch, "qbackup-line", allowed=begun, runs=True)
        report = opened(many, PASSPHRASE).verify()
        assert report.ok
        assert len(report.files) == 2 * FILES + 1

    @pytest.mark.timeout(60)
    @rows("name", ["qbackup-line", "qbackup-stage", "qbackup-derive"])
    @rows("jobs", [1, 8])
    def test_a_thread_that_ends_before_its_first_line_is_not_waited_for(
        self,
        many: Path,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        jobs: int,
    ) -> None:
        with qbackup.open(many, passphrase=PASSPHRASE, jobs=jobs) as archive:
            _ = archive.metadata
            wait_for(lambda: name not in threads())
            run = threading.Thread.run
            monkeypatch.setattr(
                threading.Thread, "run", lambda self: None if self.name == name else run(self)
            )
            if (name, jobs) == ("qbackup-line", 1):
                assert archive.verify().ok  # one job has no lines
            else:
                with pytest.raises(MachineError, match="a thread ended without a word"):
                    archive.verify()

    @pytest.mark.timeout(60)
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_a_stage_that_fails_to_say_so_ends_it_too(
        self, many: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Memory can run out once more while the first such error is handed over."""

        def fail(self: Session[object]) -> None:
            raise MemoryError

        with qbackup.open(many, passphrase=PASSPHRASE, jobs=1) as archive:
            _ = archive.metadata
            with monkeypatch.context() as patch:
                patch.setattr(Session, "_open_chunks", fail)
                patch.setattr(Session, "_drop_all", fail)
                with pytest.raises(MemoryError):
                    archive.verify()

    def test_with_no_line_at_all_it_is_said(
        self, many: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        archive = opened(many, PASSPHRASE)
        _ = archive.metadata
        refuse(monkeypatch, "qbackup-line", allowed=0)
        with pytest.raises(MachineError, match="thread"):
            archive.verify()

    @rows("stage", ["_look_ahead", "_open_chunks"])
    @rows("jobs", [1, 8], quick=2)
    @rows("from_a_pipe", [False, True])
    def test_a_stage_that_dies_ends_it(
        self,
        many: Path,
        opened: Opener,
        monkeypatch: pytest.MonkeyPatch,
        stage: str,
        jobs: int,
        from_a_pipe: bool,
    ) -> None:
        """Memory can run out while an error is handed over; waiting chunks are given back then."""
        begin = getattr(Session, stage)
        is_ill = threading.Event()

        def die(self: Session[object]) -> None:
            if not is_ill.is_set():
                begin(self)
                return
            if stage == "_open_chunks":
                coming = self._coming
                wait_for(lambda: coming._closed or coming._chunks > 0)
            raise MemoryError

        monkeypatch.setattr(Session, stage, die)
        with contextlib.ExitStack() as stack:
            source = stack.enter_context(piped(many)) if from_a_pipe else many
            archive = opened(source, PASSPHRASE, jobs)
            _ = archive.metadata
            is_ill.set()
            with pytest.raises(MemoryError):
                archive.verify()
            pool = inside(archive).pipeline._pool
            wait_for(lambda: pool._schedule._used == 0)


class TestShared:
    def test_each_item_goes_to_one_of_them(self) -> None:
        shared = Shared(range(10_000))
        taken: list[list[int]] = [[] for _ in range(4)]
        workers = [threading.Thread(target=lambda mine=mine: mine.extend(shared)) for mine in taken]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        assert sorted(itertools.chain.from_iterable(taken)) == list(range(10_000))
        assert all(mine == sorted(mine) for mine in taken)


class TestTurns:
    """Where a file system ignores case, two files of a backup can be one on the disk."""

    def test_two_of_one_name_are_never_written_at_the_same_time(self, tmp_path: Path) -> None:
        writer = FolderWriter(tmp_path / "out")
        inside: list[str] = []
        begun, may_end = threading.Event(), threading.Event()

        def write(name: str) -> None:
            with writer.image("work", name) as sink:
                inside.append(name)
                begun.set()
                may_end.wait(60)
                sink.write(0, memoryview(name.encode()))
                sink.commit(len(name))

        one = threading.Thread(target=write, args=("Private.img",))
        other = threading.Thread(target=write, args=("private.IMG",))
        third = threading.Thread(target=write, args=("root.img",))
        one.start()
        assert begun.wait(60)
        other.start()
        third.start()
        wait_for(lambda: len(inside) == 2)
        assert inside == ["Private.img", "root.img"]
        may_end.set()
        for thread in (one, other, third):
            thread.join(60)
        assert inside == ["Private.img", "root.img", "private.IMG"]
        writer.close()

    def test_an_error_gives_the_turn_away(self, tmp_path: Path) -> None:
        writer = FolderWriter(tmp_path / "out")
        with pytest.raises(RuntimeError), writer.image("work", "a"):
            raise RuntimeError
        with writer.image("work", "A") as sink:
            sink.commit(0)
        writer.close()
        assert files_below(tmp_path / "out") == {"work/A"}


class TestSignals:
    @pytest.fixture
    def endless(self, tmp_path: Path) -> Path:
        """Vault's image would take minutes."""
        member = "vm2/private.img.000.enc"
        return alter.with_parameters(SAMPLE, tmp_path / "endless", member, 14, 8, 1 << 11)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("number", "status", "word"),
        [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
    )
    def test_end_all_lines(
        self, endless: Path, tmp_path: Path, number: int, status: int, word: str
    ) -> None:
        out = tmp_path / "out"
        arguments = (
            "restore",
            endless,
            *alter.ANY_GROWTH,
            "-o",
            out,
            "--jobs",
            "8",
            "-p",
            SAMPLE_FILE,
        )
        with start(*arguments) as process:
            wait_for_derivation(process, *(out / name for name in BEFORE_VAULT))
            process.send_signal(number)
            ended = finish(process, arguments)
        assert ended.status == status
        assert ended.err == f"qbackup: {word}; no half-written file was left under a final name\n"
        assert not (out / "vault/private.img").exists()
        assert not {name for name in files_below(out) if name.endswith(".part")}


def check_no_half_written_file(out: Path) -> None:
    """What is there is whole."""
    for path in out.rglob("*"):
        assert path.suffix != ".part"
        if path.name == "private.img":
            number = int(path.parent.name[1:])
            assert path.read_bytes() == bytes([number + 1]) * (100 << 10)


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, allowed: int, *, runs: bool = False) -> None:
    """No more threads of this name can be started; they may run nevertheless."""
    start_thread = threading.Thread.start
    begun: list[threading.Thread] = []

    def start_some(self: threading.Thread) -> None:
        if self.name == name:
            if len(begun) >= allowed:
                if runs:
                    start_thread(self)
                raise RuntimeError("can't start new thread")
            begun.append(self)
        start_thread(self)

    monkeypatch.setattr(threading.Thread, "start", start_some)


@pytest.mark.slow
def test_lines_are_for_four_jobs_and_more(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    lines = ParallelFiles.__init__

    def count(self: ParallelFiles[object, object], sessions: list[object], work: object) -> None:
        counts.append(len(sessions))
        lines(self, sessions, work)  # type: ignore[arg-type]

    monkeypatch.setattr(ParallelFiles, "__init__", count)
    for jobs in (1, 3, 4, 8, 9, 64):
        with qbackup.open(many, passphrase=PASSPHRASE, jobs=jobs) as archive:
            assert isinstance(inside(archive).pipeline, Pipeline)
            assert archive.verify().ok
    with qbackup.open(many.open("rb"), passphrase=PASSPHRASE, jobs=8) as archive:
        assert archive.verify().ok
    assert counts == [2, 4, 4, 16, 4]
