"""The simulation behind benchmarks/scaling.py: what must hold on any machine."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from benchmarks.plot import Series, chart
from benchmarks.scaling import (
    BUDGET,
    SHAPES,
    SINGLE,
    TYPICAL,
    Scaling,
    benchmark_backup,
    many_files,
    one_file,
)
from benchmarks.scenario import CHUNK, MIB, Backup, Machine, Outcome, Rates
from benchmarks.simulation import Simulation
from benchmarks.speeds import typical
from qbackup.keys import Deriver
from qbackup.pipeline import Pipeline
from qbackup.scrypt import ScryptParameters
from tests.speed import rows

SPEEDS = typical()
DISK = SPEEDS.on(8000)
CORES = (1, 2, 4, 8, 16, 32)


def run(cores: int, backup: Backup, rates: Rates = DISK.required, remote: int = 0) -> Outcome:
    """One restore, with two GiB for each core."""
    return Simulation(Machine(cores, cores * BUDGET, remote), backup, rates).run()


@pytest.fixture(params=[TYPICAL, SINGLE], ids=str)
def parameters(request: pytest.FixtureRequest) -> ScryptParameters:
    """Of the derivations."""
    chosen: ScryptParameters = request.param
    return chosen


@pytest.fixture(params=sorted(SHAPES))
def backup(request: pytest.FixtureRequest, parameters: ScryptParameters) -> Backup:
    """Eighty chunks of images."""
    return SHAPES[request.param](parameters, 80 * CHUNK)


@pytest.fixture(params=["required", "turbo"])
def rates(request: pytest.FixtureRequest) -> Rates:
    """Without the lane kernel and with it."""
    chosen: Rates = getattr(DISK, request.param)
    return chosen


@pytest.fixture
def pipeline() -> Iterator[Pipeline]:
    """The product's, with an executor of five workers."""
    with ThreadPoolExecutor(5) as executor:
        made = Pipeline(Deriver(), jobs=12, executor=executor)
        yield made
        made.close()


# What is simulated is the product


def test_the_window_is_the_pipelines(pipeline: Pipeline) -> None:
    backup = one_file(TYPICAL, 80 * CHUNK)
    assert Machine(12, BUDGET, remote=5).chunks_ahead(backup, kernel=False) == pipeline._window
    alone = Pipeline(Deriver(), jobs=12)
    assert Machine(12, BUDGET).chunks_ahead(backup, kernel=False) == alone._window


@pytest.mark.parametrize("cores", [1, 2, 8, 64])
@pytest.mark.parametrize("chunks", [1, 5, 20, 100, 3000])
def test_the_kernel_is_loaded_where_the_pipeline_loads_it(
    cores: int, chunks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Pipeline(Deriver(), jobs=cores)
    loaded: list[ScryptParameters] = []
    monkeypatch.setattr(pipeline._pool, "warm_up", loaded.append)
    pipeline.expect_keys(TYPICAL, chunks)
    pays = Machine(cores, BUDGET).kernel_pays(one_file(TYPICAL, chunks * CHUNK))
    assert pays == bool(loaded)


def test_the_benchmarks_backup_takes_about_what_it_takes() -> None:
    rates = replace(SPEEDS.required, output=1 / (800 * MIB))
    outcome = Simulation(Machine(2, 12 << 30), benchmark_backup(), rates).run()
    assert 9.5 < outcome.seconds < 11.5


# What no scheduler can do


def test_it_is_deterministic(backup: Backup, rates: Rates) -> None:
    assert run(8, backup, rates, remote=3) == run(8, backup, rates, remote=3)


def test_one_worker_takes_the_sum_of_the_work(backup: Backup) -> None:
    outcome = run(1, backup, SPEEDS.required)
    assert outcome.seconds == pytest.approx(SPEEDS.required.start + sum(outcome.work))


def test_the_work_is_what_is_in_the_backup(backup: Backup) -> None:
    rates, (keys, rest) = DISK.required, run(4, backup).work
    key = rates.lane * backup.parameters.n * backup.parameters.r * backup.parameters.p
    assert keys == pytest.approx(key * (backup.chunks + 2)), "and the header's and qubes.xml's"
    output = backup.ratio * (rates.inflate + rates.write)
    assert rest == pytest.approx(backup.stored * (rates.open + output))


@pytest.mark.parametrize("cores", CORES)
def test_nothing_is_faster_than_the_work_by_workers(
    cores: int, backup: Backup, rates: Rates
) -> None:
    outcome = run(cores, backup, rates)
    assert outcome.seconds >= sum(outcome.work) / cores


@rows("cores", [*CORES, 256], quick=21)
def test_nothing_is_faster_than_the_longest_file_or_the_disks(
    cores: int, backup: Backup, rates: Rates
) -> None:
    outcome = run(cores, backup, rates)
    chain = max(backup.files) * backup.ratio * (rates.inflate + rates.write)
    assert outcome.seconds >= chain
    assert outcome.seconds >= backup.stored * max(rates.source, backup.ratio * rates.output)


def test_more_workers_are_no_slower(backup: Backup, rates: Rates) -> None:
    """But for the first keys, which come a second or two later where many are derived at once."""
    seconds = [run(cores, backup, rates).seconds for cores in CORES]
    assert all(more <= fewer * 1.03 for fewer, more in itertools.pairwise(seconds))


def test_other_machines_help(parameters: ScryptParameters) -> None:
    backup = many_files(parameters, 80 * CHUNK)
    alone, helped = run(2, backup), run(2, backup, remote=4)
    assert helped.seconds < 0.8 * alone.seconds


@pytest.mark.parametrize("cores", CORES)
def test_memory_stays_within_the_budget(cores: int, backup: Backup, rates: Rates) -> None:
    held = Machine(cores, BUDGET).lines_at_once * CHUNK  # one for each file is always admitted
    assert run(cores, backup, rates).memory <= cores * BUDGET + held


def test_a_budget_for_one_lane_is_enough(backup: Backup) -> None:
    lane = backup.parameters.lane_memory
    outcome = Simulation(Machine(8, lane), backup, DISK.required).run()
    assert outcome.seconds > run(8, backup).seconds
    assert outcome.memory <= lane + 4 * CHUNK


# What is said to limit it


def limit(outcome: Outcome) -> str:
    """What was waited for longest."""
    return max(outcome.limits, key=lambda name: outcome.limits[name])


def test_what_is_waited_for_adds_up_to_the_time(backup: Backup, rates: Rates) -> None:
    outcome = run(8, backup, rates)
    assert sum(outcome.limits.values()) == pytest.approx(outcome.seconds)


def test_what_is_scarce_is_what_limits() -> None:
    one, many = one_file(TYPICAL, 80 * CHUNK), many_files(TYPICAL, 80 * CHUNK)
    slow = 1 / (20 * MIB)
    assert limit(run(32, one)) == "inflating"
    assert limit(run(32, many, replace(DISK.required, output=slow))) == "output disk"
    assert limit(run(32, many, replace(DISK.required, source=slow))) == "source disk"
    nearly_free = replace(SPEEDS.required, open=0.0, inflate=0.0, write=0.0)
    assert limit(run(4, many, nearly_free)) == "derivations"
    short = Simulation(Machine(32, 300 * MIB), many, nearly_free).run()
    assert limit(short) == "memory budget"
    near = Simulation(Machine(32, 64 << 30, window=2, lines=1), one, nearly_free).run()
    assert limit(near) == "window"


@pytest.mark.slow
def test_long_backups_go_on_as_their_beginnings(parameters: ScryptParameters) -> None:
    machine, stored = Machine(8, 8 * BUDGET), 3000 * CHUNK
    for shape in SHAPES:
        short = Scaling(SPEEDS).point(machine, shape, parameters, stored)
        exact = Scaling(SPEEDS, exact=True).point(machine, shape, parameters, stored)
        assert short.outcome.seconds == pytest.approx(exact.outcome.seconds, rel=0.01)
        assert short.limit == exact.limit


# The chart


def test_the_chart_is_svg_with_a_background_and_all_labels() -> None:
    series = [Series("a <b>", "note", "#123456", [(1, 1), (4, 3)])]
    root = ET.fromstring(chart("Title", "subtitle", ("x", "y"), (8, 8), series))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.find("{*}rect") is not None
    assert "a <b>" in [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
