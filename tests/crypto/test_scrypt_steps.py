"""scrypt in three steps gives scrypt's keys, and the step that travels carries no passphrase."""

from __future__ import annotations

import concurrent.futures
import hashlib
import multiprocessing
import os
import pickle
import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qbackup.base.errors import MachineError, NotEnoughMemory
from qbackup.crypto import scrypt_steps
from qbackup.crypto.kdf import Derivation
from qbackup.crypto.romix.kernel import LaneKernel, LaneMemory, load_kernel
from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.crypto.scrypt_steps import (
    NoLaneKernel,
    can_travel,
    check_worker,
    expand,
    finish,
    romix,
)
from tests.support.derivations import key_of, need_llvmlite, plain_romix
from tests.support.speed import rows

SECRET = b"correct horse battery staple"

at_r_8 = st.builds(
    Derivation,
    st.binary(max_size=80),
    st.binary(max_size=40),
    st.builds(ScryptParameters, st.integers(1, 9), st.just(8), st.integers(1, 20)),
)
each_example_alike = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def mixed_key(job: Derivation) -> bytes:
    parameters = job.parameters
    return finish(job, romix(expand(job), parameters.log2_n, parameters.r))


class CountingKernel(LaneKernel):
    """The real one; remembers how many lanes each pass had, and its memory."""

    def __init__(self, real: LaneKernel) -> None:
        super().__init__(real.prepare)
        self.passes: list[int] = []
        self.memories: list[LaneMemory] = []
        self.sizes: list[int] = []

    def romix(
        self,
        blocks: bytes | bytearray | memoryview,
        parameters: ScryptParameters,
        memory: LaneMemory,
    ) -> bytes:
        self.passes.append(len(blocks) // 1024)
        self.memories.append(memory)
        self.sizes.append(len(blocks) // 1024 * parameters.lane_memory)
        return super().romix(blocks, parameters, memory)


@pytest.fixture(scope="module")
def loaded() -> LaneKernel:
    need_llvmlite()
    return load_kernel()


@pytest.fixture
def forgotten() -> Iterator[None]:
    """The kernel that this process has is loaded anew."""
    scrypt_steps._kernel.cache_clear()
    yield
    scrypt_steps._kernel.cache_clear()


@pytest.fixture
def kernel(loaded: LaneKernel, forgotten: None, monkeypatch: pytest.MonkeyPatch) -> CountingKernel:
    """The kernel that `romix` uses."""
    counting = CountingKernel(loaded)
    monkeypatch.setattr(scrypt_steps, "load_kernel", lambda: counting)
    return counting


@pytest.fixture
def no_kernel(forgotten: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine without llvmlite; the list tells how often it was looked for."""
    asked = []

    def load() -> LaneKernel:
        asked.append("llvmlite")
        raise ImportError("No module named 'llvmlite'")

    monkeypatch.setattr(scrypt_steps, "load_kernel", load)
    return asked


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """`memory(lanes)`: a machine in which `romix` has room for so many lanes of N=2^6, r=8."""

    def set_to(lanes: int | None) -> None:
        cores = os.cpu_count() or 1
        size = None if lanes is None else 2 * cores * (lanes * 2**16 + 1000)
        monkeypatch.setattr("qbackup.crypto.scrypt_steps.physical_memory", lambda: size)

    return set_to


class TestKeys:
    @given(at_r_8)
    @each_example_alike
    def test_are_openssls(self, kernel: CountingKernel, job: Derivation) -> None:
        assert mixed_key(job) == key_of(job)

    @pytest.mark.slow
    @given(at_r_8, st.integers(1, 9))
    @each_example_alike
    def test_are_openssls_in_any_memory(
        self,
        kernel: CountingKernel,
        monkeypatch: pytest.MonkeyPatch,
        job: Derivation,
        lanes: int,
    ) -> None:
        size = lanes * job.parameters.lane_memory
        monkeypatch.setattr(scrypt_steps, "_memory_of_one_worker", lambda: size)
        kernel.passes.clear()
        kernel.sizes.clear()
        assert mixed_key(job) == key_of(job)
        assert max(kernel.sizes, default=0) <= size

    def test_mix_of_any_blocks_is_romix_of_each(self, kernel: CountingKernel) -> None:
        blocks = random.Random(3).randbytes(11 * 1024)
        assert romix(blocks, 4, 8) == plain_romix(blocks, 1 << 4)

    def test_expand_and_finish_are_pbkdf2(self) -> None:
        job = Derivation(SECRET, b"salt", ScryptParameters(4, 3, 5))
        assert len(expand(job)) == 128 * 3 * 5
        assert expand(job) == hashlib.pbkdf2_hmac("sha256", SECRET, b"salt", 1, 128 * 3 * 5)
        assert finish(job, b"mixed") == hashlib.pbkdf2_hmac("sha256", SECRET, b"mixed", 1, 64)


class TestPasses:
    """How many lanes go through the kernel at once."""

    @pytest.mark.parametrize(
        ("p", "passes"),
        [
            (1, [1]),
            (2, [2]),
            (3, [3]),
            (5, [5]),
            (6, [6]),
            (7, [6, 1]),
            (12, [6, 6]),
            (20, [6, 6, 6, 2]),
        ],
    )
    def test_are_six_lanes_wide(self, kernel: CountingKernel, p: int, passes: list[int]) -> None:
        job = Derivation(SECRET, b"salt", ScryptParameters(6, 8, p))
        assert mixed_key(job) == key_of(job)
        assert kernel.passes == passes

    @pytest.mark.parametrize(
        ("lanes", "passes"),
        [
            (0, [1] * 10),
            (1, [1] * 10),
            (2, [2, 2, 2, 2, 2]),
            (5, [5, 5]),
            (6, [6, 4]),
            (100, [6, 4]),
            (None, [6, 4]),
        ],
    )
    def test_are_as_wide_as_the_memory(
        self,
        kernel: CountingKernel,
        memory: Callable[[int | None], None],
        lanes: int | None,
        passes: list[int],
    ) -> None:
        """Half of it, for one of as many workers as there are cores; 4 GiB when not told."""
        memory(lanes)
        job = Derivation(SECRET, b"salt", ScryptParameters(6, 8, 10))
        assert mixed_key(job) == key_of(job)
        assert kernel.passes == passes

    def test_use_one_memory_and_give_it_back(self, kernel: CountingKernel) -> None:
        romix(bytes(20 * 1024), 4, 8)
        assert len(set(map(id, kernel.memories))) == 1
        assert kernel.memories[0]._map is None

    def test_give_it_back_when_they_fail(
        self, kernel: CountingKernel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*arguments: object) -> None:
            raise RuntimeError("illegal instruction")

        monkeypatch.setattr(kernel, "prepare", lambda lanes: fail)
        with pytest.raises(RuntimeError):
            romix(bytes(8 * 1024), 4, 8)
        assert kernel.memories[0]._map is None

    @pytest.mark.parametrize(("log2_n", "r"), [(6, 4), (6, 9), (33, 8)])
    def test_are_not_made_with_parameters_that_the_kernel_does_not_support(
        self, kernel: CountingKernel, monkeypatch: pytest.MonkeyPatch, log2_n: int, r: int
    ) -> None:
        monkeypatch.setattr(scrypt_steps, "check_memory", lambda parameters: None)
        assert not can_travel(ScryptParameters(log2_n, r, 1))
        with pytest.raises(ValueError, match="lanes"):
            romix(bytes(8 * 128 * r), log2_n, r)

    @pytest.mark.parametrize("log2_n", [1, 18, 20, 32])
    def test_are_made_with_those_of_backups(self, log2_n: int) -> None:
        assert can_travel(ScryptParameters(log2_n, 8, 1))


class TestMachines:
    def test_the_kernel_is_loaded_once(
        self, loaded: LaneKernel, forgotten: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        loads: list[str] = []

        def load() -> LaneKernel:
            loads.append("load")
            return loaded

        monkeypatch.setattr(scrypt_steps, "load_kernel", load)
        check_worker()
        for _ in range(3):
            romix(bytes(8 * 1024), 2, 8)
        assert loads == ["load"]

    def test_one_without_llvmlite_says_so(self, no_kernel: list[str]) -> None:
        with pytest.raises(NoLaneKernel, match=r"^llvmlite is not installed$"):
            romix(bytes(8 * 1024), 2, 8)
        with pytest.raises(NoLaneKernel):
            check_worker()

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (MachineError("wrong keys"), "wrong keys"),
            (RuntimeError("LLVM \x1b[2J"), r"LLVM \x1b[2J"),
            (OSError(), ""),
        ],
    )
    def test_one_with_a_broken_llvmlite_says_so(
        self,
        forgotten: None,
        monkeypatch: pytest.MonkeyPatch,
        error: Exception,
        reason: str,
    ) -> None:
        def load() -> LaneKernel:
            raise error

        monkeypatch.setattr(scrypt_steps, "load_kernel", load)
        with pytest.raises(NoLaneKernel) as raised:
            romix(bytes(8 * 1024), 2, 8)
        assert raised.value.reason == f"llvmlite does not work: {reason}"

    def test_the_error_travels(self) -> None:
        error = pickle.loads(pickle.dumps(NoLaneKernel("llvmlite is not installed")))
        assert type(error) is NoLaneKernel
        assert error.reason == "llvmlite is not installed"

    @pytest.mark.parametrize("p", [1, 8])
    def test_more_memory_than_there_is_is_not_asked_for(
        self, kernel: CountingKernel, monkeypatch: pytest.MonkeyPatch, p: int
    ) -> None:
        """Where memory is overcommitted that would end the worker's process."""
        monkeypatch.setattr("qbackup.crypto.kdf.physical_memory", lambda: 2**20 - 1)
        romix(bytes(p * 1024), 9, 8)
        with pytest.raises(NotEnoughMemory, match="a key needs 1 MiB"):
            romix(bytes(p * 1024), 10, 8)


class TestTravelling:
    @pytest.fixture(autouse=True)
    def has_llvmlite(self) -> None:
        need_llvmlite()

    def test_the_function_goes_by_its_name(self) -> None:
        parcel = pickle.dumps(romix)
        assert pickle.loads(parcel) is romix
        assert b"qbackup.crypto.scrypt_steps" in parcel
        assert len(parcel) < 100

    @rows("p", [1, 5, 12])
    def test_the_arguments_hold_neither_passphrase_nor_salt_nor_key(self, p: int) -> None:
        salt = b"a salt of 32 bytes, quite unique"
        job = Derivation(SECRET, salt, ScryptParameters(4, 8, p))
        arguments = (expand(job), job.parameters.log2_n, job.parameters.r)
        assert list(map(type, arguments)) == [bytes, int, int]
        parcel = pickle.dumps((romix, *arguments))
        answer = pickle.dumps(romix(*arguments))
        key = mixed_key(job)
        for word in (SECRET, salt, key, key[:32], key[32:]):
            assert word not in parcel + answer

    def test_another_process_does_it(self) -> None:
        """It gets nothing of this process but the arguments."""
        job = Derivation(SECRET, b"salt", ScryptParameters(8, 8, 2))
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
            mixed = executor.submit(romix, expand(job), 8, 8).result()
        assert finish(job, mixed) == key_of(job)
