"""A Dask cluster of real processes helps to restore: the same bytes, whatever becomes of it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import qbackup
from qbackup.cli import cluster as cluster_module
from qbackup.crypto.scrypt_steps import romix
from tests.maker import BackupMaker
from tests.support import restored
from tests.support.commandline import (
    EXAMPLES,
    PATIENCE_SECONDS,
    SAMPLE,
    SAMPLE_FILE,
    Ended,
    call,
    check_always,
    environment,
    finish,
    run,
    start,
    wait_for,
)
from tests.support.derivations import need_llvmlite
from tests.support.restored import files_below

ROOT = EXAMPLES.parent
CHUNKS = 12
KEY = ("-q", "-p", SAMPLE_FILE)


@pytest.fixture(scope="module")
def distributed() -> Any:
    """The package; where it is missing its tests are skipped, or fail with `CI` set."""
    if importlib.util.find_spec("distributed") is None:
        if os.environ.get("CI"):
            pytest.fail("not installed: distributed")
        pytest.skip("not installed: distributed")
    import distributed

    need_llvmlite()
    return distributed


@contextlib.contextmanager
def cluster(distributed: Any) -> Iterator[Any]:
    """Two workers, each a process of its own, which can import qbackup."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.closing(
            distributed.LocalCluster(
                n_workers=2,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                env={"PYTHONPATH": path},
                silence_logs=50,
            )
        ) as made,
    ):
        patch.setenv("PYTHONPATH", path)
        yield made


@pytest.fixture(scope="module")
def address(distributed: Any) -> Iterator[str]:
    """Of workers that have begun: what one loads first takes longer than all of `slow`."""
    with cluster(distributed) as made:
        with distributed.Client(made, set_as_default=False) as client:
            client.run(romix, bytes(5 * 1024), 4, 8)
        yield made.scheduler_address


@pytest.fixture(scope="module")
def slow(tools: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dozen chunks with N=2^15 and p=5, so that derivations take a while."""
    folder = tmp_path_factory.mktemp("slow")
    maker = BackupMaker(
        folder / "maker",
        passphrase=SAMPLE_FILE.read_text().strip(),
        compression_filter=None,
        chunk_size=8192,
    )
    data = random.Random(3).randbytes((CHUNKS - 1) * 8192)
    maker.add_qube("work", files={"private.img": data})
    for number in range(CHUNKS):
        options = ("--logN", "15", "-r", "8", "-p", "5")
        maker.scrypt_options_for[f"vm1/private.img.{number:03d}"] = options
    return maker.write(folder / "backup")


@pytest.fixture(scope="module")
def expected(slow: Path, tmp_path_factory: pytest.TempPathFactory) -> restored.Snapshot:
    """What a restore without a cluster gives."""
    out = tmp_path_factory.mktemp("expected")
    assert call("restore", slow, "-o", out, *KEY).status == 0
    return restored.snapshot(out)


class TestRestore:
    @pytest.mark.slow
    def test_gives_the_same_bytes(
        self, slow: Path, address: str, expected: restored.Snapshot, tmp_path: Path
    ) -> None:
        ended = run("restore", slow, "-o", tmp_path, "--dask", address, "--jobs", "1", *KEY)
        assert (ended.status, ended.err) == (0, "")
        assert restored.snapshot(tmp_path) == expected

    @pytest.mark.slow
    def test_is_helped_by_both_workers(
        self, distributed: Any, slow: Path, address: str, tmp_path: Path
    ) -> None:
        with distributed.Client(address, set_as_default=False) as client:
            before = calls(client)
            ended = run("verify", slow, "--dask", address, "--jobs", "1", "--json", *KEY)
            assert ended.document["ok"] is True
            after = calls(client)
        assert all(after[worker] > before.get(worker, 0) for worker in after)
        assert len(after) == 2

    @pytest.mark.slow
    def test_a_worker_that_dies_costs_nothing(
        self, distributed: Any, slow: Path, expected: restored.Snapshot, tmp_path: Path
    ) -> None:
        with cluster(distributed) as made:
            place = made.scheduler_address
            arguments = ("restore", slow, "-o", tmp_path, "--dask", place, "--jobs", "1", *KEY)
            with distributed.Client(made, set_as_default=False) as client:
                pids = client.run(os.getpid)
                with start(*arguments) as process:
                    victim = busy_worker(client)
                    os.kill(pids[victim], signal.SIGKILL)
                    ended = finish(process, arguments)
        assert (ended.status, ended.err) == (0, "")
        assert restored.snapshot(tmp_path) == expected

    @pytest.mark.slow
    def test_a_cluster_that_dies_costs_nothing(
        self, distributed: Any, slow: Path, expected: restored.Snapshot, tmp_path: Path
    ) -> None:
        """Scheduler and workers, all of it."""
        with scheduler_process() as (scheduler, address):
            arguments = ("restore", slow, "-o", tmp_path, "--dask", address, "--jobs", "1", *KEY)
            with start(*arguments) as process:
                with distributed.Client(address, set_as_default=False) as client:
                    busy_worker(client)
                os.killpg(scheduler.pid, signal.SIGKILL)
                ended = finish(process, arguments)
        assert (ended.status, ended.err) == (0, "")
        assert restored.snapshot(tmp_path) == expected

    @pytest.mark.slow
    def test_through_the_library(
        self,
        distributed: Any,
        slow: Path,
        address: str,
        expected: restored.Snapshot,
        tmp_path: Path,
    ) -> None:
        passphrase = SAMPLE_FILE.read_text().strip()
        with distributed.Client(address, set_as_default=False) as client:
            executor = client.get_executor()
            with qbackup.open(slow, passphrase=passphrase, jobs=1, executor=executor) as backup:
                assert backup.restore(tmp_path).ok
            assert executor.submit(os.getpid).result(PATIENCE_SECONDS), "it was not shut down"
        assert restored.snapshot(tmp_path) == expected

    @pytest.mark.slow
    @pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_ends_by_a_signal(
        self, distributed: Any, slow: Path, address: str, tmp_path: Path, number: int, status: int
    ) -> None:
        arguments = ("restore", slow, "-o", tmp_path, "--dask", address, "--jobs", "1", *KEY)
        with distributed.Client(address, set_as_default=False) as client:
            wait_for(lambda: not any(client.processing().values()))
            with start(*arguments) as process:
                busy_worker(client)
                process.send_signal(number)
                ended = finish(process, arguments)
            assert ended.status == status
            assert ended.err.count("\n") == 1
            assert files_below(tmp_path) == {"qubes.xml"}
            wait_for(lambda: not any(client.processing().values()))


def take_llvmlite(client: Any, workers: list[str]) -> None:
    """Makes these workers processes that find no llvmlite."""

    def take() -> None:
        sys.modules["llvmlite"] = None  # type: ignore[assignment]

    client.run(take, workers=workers)


class TestWorkersWithoutLlvmlite:
    @pytest.mark.slow
    def test_are_named_and_left_out(self, distributed: Any, slow: Path) -> None:
        with (
            cluster(distributed) as made,
            distributed.Client(made, set_as_default=False) as client,
        ):
            without, _ = sorted(client.nthreads())
            take_llvmlite(client, [without])
            place = made.scheduler_address
            ended = run("verify", slow, "--dask", place, "--jobs", "1", "--json", *KEY)
            after = calls(client)
        assert (ended.status, ended.document["ok"]) == (0, True)
        assert ended.err == (
            f"warning: these workers can't derive keys, and are left out: {without}:"
            " llvmlite is not installed\n"
        )
        assert after.pop(without) == 0
        assert all(after.values())

    @pytest.mark.slow
    def test_with_no_other_there_is_no_help(self, distributed: Any, slow: Path) -> None:
        with cluster(distributed) as made:
            with distributed.Client(made, set_as_default=False) as client:
                take_llvmlite(client, list(client.nthreads()))
            place = made.scheduler_address
            ended = run("verify", slow, "--dask", place, *KEY)
        assert ended.status == 5
        assert ended.err.splitlines()[1:] == [
            f"qbackup: no worker of the Dask cluster at {place} can derive keys: install this"
            " program and llvmlite on them"
        ]

    @pytest.mark.slow
    def test_through_the_library(self, distributed: Any, slow: Path) -> None:
        passphrase = SAMPLE_FILE.read_text().strip()
        with (
            cluster(distributed) as made,
            distributed.Client(made, set_as_default=False) as client,
        ):
            take_llvmlite(client, list(client.nthreads()))
            executor = client.get_executor()
            with qbackup.open(slow, passphrase=passphrase, jobs=1, executor=executor) as backup:
                report = backup.verify()
        assert report.ok
        assert any("llvmlite is not installed" in warning for warning in report.warnings)


class TestNoCluster:
    def test_nobody_at_the_address(self, distributed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Somebody, rather, who takes the call and says nothing: Dask alone would wait for ever."""
        monkeypatch.setattr(cluster_module, "_CONNECT_SECONDS", 0.2)
        monkeypatch.setattr(cluster_module, "_GRACE_SECONDS", 0.2)
        with listening() as silent:
            ended = call("verify", SAMPLE, "--dask", silent, *KEY)
        assert ended.status == 5
        assert ended.err.startswith(f"qbackup: can't reach the Dask cluster at {silent}: ")
        assert ended.err.count("\n") == 1

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "address", ["", "nonsense", "127.0.0.1:port", "post://127.0.0.1:1", "tls://127.0.0.1:1"]
    )
    def test_no_address(self, distributed: Any, address: str) -> None:
        ended = run("restore", SAMPLE, "-o", "/nonexistent", "--dask", address, "--json", *KEY)
        assert ended.status == 5
        assert ended.err.startswith(f"qbackup: can't reach the Dask cluster at {address}: ")
        assert ended.err.count("\n") == 1
        assert ended.document["kind"] == "MachineError"

    @pytest.mark.slow
    def test_no_workers(self, distributed: Any) -> None:
        with scheduler_process(workers=0) as (_, address):
            ended = run("verify", SAMPLE, "--dask", address, *KEY)
        assert ended.status == 5
        assert ended.err == f"qbackup: the Dask cluster at {address} has no workers\n"

    @pytest.mark.slow
    def test_a_signal_while_it_is_looked_for(self, distributed: Any) -> None:
        with listening() as silent:
            arguments = ("verify", SAMPLE, "--dask", silent, *KEY)
            with start(*arguments) as process:
                wait_for(lambda: connections(silent) > 0)
                process.send_signal(signal.SIGINT)
                ended = finish(process, arguments)
        assert (ended.status, ended.err) == (130, "qbackup: interrupted\n")

    @pytest.mark.parametrize("name", ["verify", "restore"])
    def test_without_dask_it_says_what_to_install(self, tmp_path: Path, name: str) -> None:
        hidden = (
            "import sys\n"
            "sys.modules['distributed'] = None\n"
            "from qbackup.__main__ import main\n"
            "sys.exit(main())\n"
        )
        output = ["-o", str(tmp_path / "out")] if name == "restore" else []
        arguments = [name, str(SAMPLE), *output, "--dask", "tcp://127.0.0.1:1", *map(str, KEY)]
        done = subprocess.run(
            [sys.executable, "-c", hidden, *arguments],
            capture_output=True,
            check=False,
            env=environment(),
            timeout=PATIENCE_SECONDS,
        )
        ended = Ended(done.returncode, done.stdout, done.stderr)
        check_always(arguments, ended)
        assert ended.status == 2
        assert ended.err == "qbackup: --dask needs Dask: pip install distributed\n"
        assert not (tmp_path / "out").exists()


class TestExample:
    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, EXAMPLES / "dask_cluster.py", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment({"PYTHONPATH": str(ROOT)}),
            timeout=PATIENCE_SECONDS,
        )

    @pytest.mark.slow
    def test_with_a_cluster_of_its_own(self, distributed: Any) -> None:
        done = self.run()
        assert done.returncode == 0, done.stderr
        assert done.stdout == "all 5 files are there and whole\n"

    @pytest.mark.slow
    def test_with_one_that_is_there(self, distributed: Any, address: str) -> None:
        done = self.run(SAMPLE, SAMPLE_FILE, address)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "all 5 files are there and whole\n"


def calls(client: Any) -> dict[str, int]:
    """How many keys each worker has derived so far."""

    def count(dask_worker: Any) -> int:
        return int(sum(1 for event in dask_worker.state.log if "memory" in map(str, event)))

    found: dict[str, int] = client.run(count)
    return found


def busy_worker(client: Any) -> str:
    """Waits until a worker derives a key; its address."""
    wait_for(lambda: any("mix-" in str(keys) for keys in client.processing().values()))
    found = client.processing()
    return str(next((name for name, keys in found.items() if keys), next(iter(found))))


@contextlib.contextmanager
def scheduler_process(workers: int = 2) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A cluster in processes of its own group, which can be killed as one."""
    program = (
        "import sys\n"
        "from distributed import LocalCluster\n"
        "if __name__ == '__main__':\n"
        f"    cluster = LocalCluster(n_workers={workers}, threads_per_worker=1,\n"
        "        dashboard_address=None, silence_logs=50)\n"
        "    print(cluster.scheduler_address, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment({"PYTHONPATH": str(ROOT)}),
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def listening() -> Iterator[str]:
    """The address of somebody who takes a call, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(server.accept()[0])

        threading.Thread(target=take, daemon=True).start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        for connection in taken:
            connection.close()


def connections(address: str) -> int:
    """How many clients there are at this port of this machine."""
    port = int(address.rpartition(":")[2])
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(
        line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "01" for line in lines
    )
