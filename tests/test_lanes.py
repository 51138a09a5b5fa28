"""Lanes: eight at once, one by one or in plain Python, they are what RFC 7914 says.

The kernel is compiled once, into a folder of this module's own.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qbackup import lanes
from qbackup.errors import MachineError, NotEnoughMemory
from qbackup.keys import Derivation
from qbackup.lanes import LaneKernel, LaneMemory, lane_mix, load_kernel, numba_is_installed
from qbackup.limits import GIB, MIB
from qbackup.mixing import expand, finish
from qbackup.passes import GAPS, WIDTH
from qbackup.scrypt import ScryptParameters

LANE = 1024  # bytes of a lane with r = 8
CACHE_FOLDER = "NUMBA_CACHE_DIR"


def need_numba() -> None:
    """Skips where it is not installed; in continuous integration (`CI` is set) that is a
    failure.
    """
    if numba_is_installed():
        return
    if os.environ.get("CI"):
        pytest.fail("not installed: numba")
    pytest.skip("not installed: numba")


@pytest.fixture(scope="module")
def turbo() -> None:
    """For tests that need numba, and the numpy that comes with it."""
    need_numba()


@pytest.fixture(scope="module")
def cache(turbo: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which numba keeps machine code, empty at first."""
    import numba.core.config as numba_config

    folder = tmp_path_factory.mktemp("machine-code")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_FOLDER, str(folder))
        numba_config.reload_config()
        yield folder
    numba_config.reload_config()


@pytest.fixture(scope="module")
def kernel(cache: Path) -> LaneKernel:
    return load_kernel()


@pytest.fixture
def forgotten() -> Iterator[None]:
    """`lane_mix` looks at pycryptodome anew, and does so again after the test."""
    lane_mix.cache_clear()
    yield
    lane_mix.cache_clear()


def blocks_of(count: int, seed: int) -> bytes:
    """Lanes with any content."""
    return random.Random(seed).randbytes(count * LANE)


def key_of(job: Derivation) -> bytes:
    """By OpenSSL."""
    parameters = job.parameters
    return hashlib.scrypt(
        job.secret, salt=job.salt, n=parameters.n, r=parameters.r, p=parameters.p, dklen=64
    )


def run_python(program: str, **environment: str) -> str:
    """What a program writes, in a process of its own."""
    return subprocess.check_output(
        [sys.executable, "-c", program], text=True, env={**os.environ, **environment}
    )


class TestKernel:
    @pytest.mark.parametrize(
        ("secret", "salt", "log2_n", "p", "key"),
        [
            (
                b"password",
                b"NaCl",
                10,
                16,
                "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"
                "2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640",
            ),
            (
                b"pleaseletmein",
                b"SodiumChloride",
                14,
                1,
                "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
                "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887",
            ),
        ],
    )
    def test_gives_the_vectors_of_rfc_7914(
        self, kernel: LaneKernel, secret: bytes, salt: bytes, log2_n: int, p: int, key: str
    ) -> None:
        """Section 12, those with r = 8 (the one with N=2^20 takes a GiB)."""
        job = Derivation(secret, salt, ScryptParameters(log2_n, 8, p))
        blocks, memory = expand(job), LaneMemory()
        passes = (blocks[at : at + WIDTH * LANE] for at in range(0, len(blocks), WIDTH * LANE))
        mixed = b"".join(kernel.romix(piece, job.parameters, memory) for piece in passes)
        assert finish(job, mixed).hex() == key

    @given(
        st.binary(max_size=50),
        st.binary(max_size=50),
        st.integers(2, 12),
        st.integers(1, 8),
        st.sampled_from(list(GAPS)),
    )
    @settings(deadline=None, max_examples=60)
    def test_gives_the_keys_of_openssl(
        self, kernel: LaneKernel, secret: bytes, salt: bytes, log2_n: int, p: int, gap: int
    ) -> None:
        job = Derivation(secret, salt, ScryptParameters(log2_n, 8, p))
        mixed = kernel.romix(expand(job), job.parameters, LaneMemory(), gap)
        assert finish(job, mixed) == key_of(job)

    @given(st.integers(0), st.integers(2, 12), st.integers(1, 8), st.sampled_from(list(GAPS)))
    @settings(deadline=None, max_examples=60)
    def test_mixes_any_blocks_as_pycryptodome_does(
        self, kernel: LaneKernel, seed: int, log2_n: int, count: int, gap: int
    ) -> None:
        blocks = blocks_of(count, seed)
        parameters = ScryptParameters(log2_n, 8, count)
        mixed = kernel.romix(blocks, parameters, LaneMemory(), gap)
        assert mixed == lane_mix()(blocks, LANE, parameters.n)

    @pytest.mark.parametrize("fill", [b"\0", b"\xff", b"\x80\0\0\0", b"\1\0\0\0"])
    def test_carries_and_rotates_every_bit(self, kernel: LaneKernel, fill: bytes) -> None:
        blocks = fill * (WIDTH * LANE // len(fill))
        mixed = kernel.romix(blocks, ScryptParameters(5, 8, 1), LaneMemory())
        assert mixed == lane_mix()(blocks, LANE, 32)

    def test_one_pass_may_serve_several_keys(self, kernel: LaneKernel) -> None:
        """Three keys, of 1, 5 and 2 lanes; and back in the order in which they came."""
        jobs = [
            Derivation(secret, b"salt", ScryptParameters(8, 8, p))
            for secret, p in ((b"one", 1), (b"five", 5), (b"two", 2))
        ]
        blocks = b"".join(map(expand, jobs))
        mixed = kernel.romix(blocks, ScryptParameters(8, 8, 1), LaneMemory())
        for job in jobs:
            own, mixed = mixed[: job.parameters.p * LANE], mixed[job.parameters.p * LANE :]
            assert finish(job, own) == key_of(job)
        assert mixed == b""

    def test_a_lane_does_not_depend_on_its_neighbours(self, kernel: LaneKernel) -> None:
        blocks, parameters = blocks_of(WIDTH, 1), ScryptParameters(6, 8, 1)
        together = kernel.romix(blocks, parameters, LaneMemory())
        alone = b"".join(
            kernel.romix(blocks[at : at + LANE], parameters, LaneMemory())
            for at in range(0, len(blocks), LANE)
        )
        assert together == alone

    def test_what_the_memory_held_before_changes_nothing(self, kernel: LaneKernel) -> None:
        memory = LaneMemory()
        for log2_n, count in ((9, 3), (4, 8), (9, 8), (2, 1), (9, 2)):
            blocks, parameters = blocks_of(count, log2_n), ScryptParameters(log2_n, 8, 1)
            mixed = kernel.romix(blocks, parameters, memory)
            assert mixed == lane_mix()(blocks, LANE, parameters.n)

    @pytest.mark.parametrize("kind", [bytes, bytearray, lambda data: memoryview(bytearray(data))])
    def test_takes_bytes_of_any_kind_and_changes_none(
        self, kernel: LaneKernel, kind: Callable[[bytes], Any]
    ) -> None:
        blocks = blocks_of(2, 7)
        given = kind(blocks)
        mixed = kernel.romix(given, ScryptParameters(3, 8, 1), LaneMemory())
        assert mixed == lane_mix()(blocks, LANE, 8)
        assert given == blocks

    def test_two_threads_may_use_it_at_once(self, kernel: LaneKernel) -> None:
        parameters = ScryptParameters(11, 8, 1)
        mixed: dict[int, list[bytes]] = {0: [], 1: []}
        together = threading.Barrier(2)

        def work(number: int) -> None:
            memory = LaneMemory()
            together.wait()
            for seed in range(5):
                blocks = blocks_of(WIDTH - number, 100 * number + seed)
                mixed[number].append(kernel.romix(blocks, parameters, memory))

        threads = [threading.Thread(target=work, args=(number,)) for number in mixed]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number in mixed:
            assert mixed[number] == [
                lane_mix()(blocks_of(WIDTH - number, 100 * number + seed), LANE, parameters.n)
                for seed in range(5)
            ]

    def test_other_threads_run_meanwhile(self, kernel: LaneKernel) -> None:
        """One sees V half filled. It may miss that, so there are many chances."""
        parameters, memory = ScryptParameters(15, 8, 1), LaneMemory()
        blocks = blocks_of(1, 5)

        def sees_it_half_filled() -> bool:
            v = memory.reserve(parameters.lane_memory)
            v[:] = 0
            arguments = (blocks, parameters, memory)
            thread = threading.Thread(target=kernel.romix, args=arguments)
            thread.start()
            seen = False
            while thread.is_alive() and not seen:
                end_is_empty = not v[-LANE // 4 :].any()
                seen = bool(v[: LANE // 4].any()) and end_is_empty and not v[-LANE // 4 :].any()
            thread.join()
            return seen

        assert any(sees_it_half_filled() for _ in range(100))


class TestKernelsBounds:
    @pytest.mark.parametrize(
        ("log2_n", "r", "width"),
        [
            (1, 8, 0),
            (2, 8, 8),
            (18, 8, 8),
            (32, 8, 8),
            (0, 8, 0),
            (33, 8, 0),
            (18, 7, 0),
            (18, 16, 0),
        ],
    )
    def test_width_tells_what_it_is_made_for(self, log2_n: int, r: int, width: int) -> None:
        kernel = LaneKernel(lambda work, memory, n, count, gap: None)
        assert kernel.width(ScryptParameters(log2_n, r, 5)) == width

    @pytest.mark.parametrize("size", [0, 1, LANE - 1, LANE + 1, 9 * LANE, 16 * LANE])
    def test_no_whole_number_of_lanes_is_refused(self, kernel: LaneKernel, size: int) -> None:
        with pytest.raises(ValueError, match=f"no {size} bytes of lanes"):
            kernel.romix(bytes(size), ScryptParameters(4, 8, 1), LaneMemory())

    @pytest.mark.parametrize(("log2_n", "r"), [(4, 4), (4, 16), (0, 8), (33, 8)])
    def test_other_parameters_are_refused(self, kernel: LaneKernel, log2_n: int, r: int) -> None:
        with pytest.raises(ValueError, match="bytes of lanes"):
            kernel.romix(bytes(LANE), ScryptParameters(log2_n, r, 1), LaneMemory())

    def test_memory_that_is_not_there_is_told(self, turbo: None) -> None:
        """Under a real limit of the system; a smaller pass in the same memory goes on."""
        out = run_python(
            "import resource\n"
            "from qbackup import _romix\n"
            "from qbackup.errors import NotEnoughMemory\n"
            "from qbackup.lanes import LaneKernel, LaneMemory\n"
            "from qbackup.scrypt import ScryptParameters\n"
            "kernel, memory = LaneKernel(_romix.romix), LaneMemory()\n"
            f"resource.setrlimit(resource.RLIMIT_AS, ({4 * GIB}, {4 * GIB}))\n"
            "for log2_n in (2, 20, 2):\n"
            "    try:\n"
            "        mixed = kernel.romix(bytes(4096), ScryptParameters(log2_n, 8, 1), memory)\n"
            "        print(len(mixed))\n"
            "    except NotEnoughMemory as error:\n"
            "        print(error)\n"
        )
        words = "not enough memory to derive keys: 4096 MiB are needed"
        assert out.splitlines() == ["4096", words, "4096"]


@pytest.mark.usefixtures("turbo")
class TestPlainPython:
    """The kernel's source as it stands, run without the compiler."""

    @pytest.mark.parametrize("gap", GAPS)
    @pytest.mark.parametrize(("log2_n", "p"), [(2, 8), (3, 3), (4, 1)])
    def test_the_whole_gives_the_keys_of_openssl(self, log2_n: int, p: int, gap: int) -> None:
        from qbackup import _romix

        job = Derivation(b"password", b"NaCl", ScryptParameters(log2_n, 8, p))
        mixed = LaneKernel(_romix.romix).romix(expand(job), job.parameters, LaneMemory(), gap)
        assert finish(job, mixed) == key_of(job)

    def test_salsa_gives_the_vector_of_rfc_7914(self) -> None:
        """Section 8, in every lane."""
        import numpy as np

        from qbackup import _romix

        before, after = (
            np.frombuffer(bytes.fromhex(text), "<u4").repeat(WIDTH)
            for text in (
                "7e879a214f3ec9867ca940e641718f26baee555b8c61c1b50df846116dcd3b1d"
                "ee24f319df9b3d8514121e4b5ac5aa3276021d2909c74829edebc68db8b8c25e",
                "a41f859c6608cc993b81cacb020cef05044b2181a2fd337dfd7b1c6396682f29"
                "b4393168e3c9e6bcfe6bc5b7a06d96bae424cc102c91745c24ad673dc7618f81",
            )
        )
        work: Any = np.zeros(_romix.WORK_WORDS, np.uint32)
        _romix.salsa(work, _romix.Y, before, 0)
        assert (work[_romix.T : _romix.X] == after).all()
        assert (work[_romix.Y : _romix.Y + _romix.BLOCK] == after).all()
        assert not work[_romix.X : _romix.Y].any()

    @pytest.mark.parametrize(
        "name",
        ["salsa", "to_lines", "recall", "mix_lines", "copy_line", "stream_line", "prefetch_line"],
    )
    def test_each_operation_does_what_its_instructions_do(self, name: str) -> None:
        """At several places; nothing around what it writes is touched."""
        import numba
        import numpy as np

        from qbackup import _romix

        operation = getattr(_romix, name)

        @numba.njit  # type: ignore[untyped-decorator,unused-ignore]
        def compiled(to: Any, at: int, source: Any, start: int) -> None:
            operation(to, at, source, start)

        size = _romix.WORK_WORDS
        words = np.random.default_rng(7).integers(0, 1 << 32, 2 * size, np.uint32)
        for at, start in ((128, 0), (256, 16), (384, 240)):
            to, source = words[:size].copy(), words[size:].copy()
            # `stream_line` wants an address that is a multiple of 64
            aligned = np.frombuffer(mmap.mmap(-1, 4 * size), np.uint32)
            aligned[:] = to
            other = source.copy()
            operation(to, at, source, start)
            compiled(aligned, at, other, start)
            assert (aligned == to).all()
            assert (source == other).all()
            assert (source == words[size:]).all() == (name != "recall")
            assert (to == words[:size]).all() == (name == "prefetch_line")

    def test_lines_are_the_lanes_of_a_block(self) -> None:
        import numpy as np

        from qbackup import _romix

        work: Any = np.zeros(_romix.WORK_WORDS, np.uint32)
        block = work[_romix.X : _romix.X + _romix.BLOCK]
        block[:] = np.arange(_romix.BLOCK, dtype=np.uint32)
        work[_romix.READ : _romix.READ + WIDTH - 1] = 0xFFFFFFFF
        lines: Any = np.zeros(_romix.BLOCK, np.uint32)
        _romix.to_lines(lines, 0, work, _romix.X)
        assert lines[: _romix.LINE].tolist() == list(range(0, _romix.BLOCK, WIDTH))
        _romix.mix_lines(work, _romix.X, lines, 0)
        assert not block.reshape(_romix.LINE, WIDTH)[:, : WIDTH - 1].any()
        assert block[WIDTH - 1 :: WIDTH].all(), "the last lane did not read"


class TestLoading:
    def test_numba_is_looked_for_and_not_imported(self) -> None:
        program = (
            "import sys\n"
            "from qbackup.lanes import numba_is_installed\n"
            "there = numba_is_installed()\n"
            "print('numba' in sys.modules, 'numpy' in sys.modules)\n"
            "sys.modules['numba'] = None\n"
            "print(numba_is_installed())\n"
        )
        assert run_python(program).split() == ["False", "False", "False"]

    def test_without_numba_is_an_import_error(self) -> None:
        program = (
            "import sys\n"
            "from qbackup.lanes import load_kernel\n"
            "for name in ('numba', 'llvmlite', 'numpy'):\n"
            "    sys.modules[name] = None\n"
            "try:\n"
            "    load_kernel()\n"
            "except ImportError:\n"
            "    print('ImportError')\n"
        )
        assert run_python(program).split() == ["ImportError"]

    # what a later process finds in the folder: is it used, and does the kernel work
    NEXT_PROCESS = (
        "from qbackup.lanes import LaneMemory, lane_mix, load_kernel\n"
        "from qbackup.scrypt import ScryptParameters\n"
        "kernel = load_kernel()\n"
        "print(sum(kernel._romix.stats.cache_hits.values()))\n"
        "mixed = kernel.romix(bytes(3072), ScryptParameters(4, 8, 1), LaneMemory())\n"
        "print(mixed == lane_mix()(bytes(3072), 1024, 16))\n"
    )

    def test_machine_code_is_kept_for_the_next_process(
        self, kernel: LaneKernel, cache: Path
    ) -> None:
        out = run_python(self.NEXT_PROCESS, **{CACHE_FOLDER: str(cache)})
        assert out.split() == ["1", "True"]

    def test_machine_code_that_is_damaged_is_not_used(
        self, kernel: LaneKernel, cache: Path, tmp_path: Path
    ) -> None:
        copy = shutil.copytree(cache, tmp_path / "copy")
        files = [path for path in copy.rglob("*.nbc") if path.is_file()]
        assert files
        for path in files:
            path.write_bytes(path.read_bytes()[:2000])
        out = run_python(self.NEXT_PROCESS, **{CACHE_FOLDER: str(copy)})
        assert out.split() == ["0", "True"]

    def test_where_no_folder_can_be_written_to_it_is_for_this_process(
        self, kernel: LaneKernel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from qbackup import _romix

        asked = []

        def compiled(*, cache: bool) -> lanes.RomixFunction:
            asked.append(cache)
            if cache:
                raise RuntimeError("cannot cache function 'romix': no locator available")
            return kernel._romix

        monkeypatch.setattr(_romix, "compiled", compiled)
        loaded = load_kernel()
        assert asked == [True, False]
        mixed = loaded.romix(bytes(LANE), ScryptParameters(4, 8, 1), LaneMemory())
        assert mixed == lane_mix()(bytes(LANE), LANE, 16)

    @pytest.mark.parametrize("count", [8, 5, 3])
    def test_a_kernel_that_gives_wrong_keys_is_refused(
        self, kernel: LaneKernel, monkeypatch: pytest.MonkeyPatch, count: int
    ) -> None:
        """One bit of one lane is wrong, with one number of lanes only."""
        from qbackup import _romix

        asked = []

        def wrong(work: Any, memory: Any, n: int, lanes: int, gap: int) -> None:
            kernel._romix(work, memory, n, lanes, gap)
            if lanes == count:
                work[_romix.Z + lanes - 1] ^= 1

        def compiled(*, cache: bool) -> lanes.RomixFunction:
            asked.append(cache)
            return wrong

        monkeypatch.setattr(_romix, "compiled", compiled)
        with pytest.raises(MachineError, match="wrong keys"):
            load_kernel()
        assert asked == [True, False]

    def test_wrong_machine_code_on_the_disk_is_replaced(
        self, kernel: LaneKernel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from qbackup import _romix

        def compiled(*, cache: bool) -> lanes.RomixFunction:
            def nothing(work: Any, memory: Any, n: int, lanes: int, gap: int) -> None:
                pass

            return nothing if cache else kernel._romix

        monkeypatch.setattr(_romix, "compiled", compiled)
        assert load_kernel()._romix is kernel._romix


@pytest.mark.usefixtures("turbo")
class TestMemory:
    SMALL = 4 * MIB
    LARGE = 9 * MIB

    def filled(self, memory: LaneMemory, size: int) -> None:
        """Every word gets a number of its own, and nobody holds the array."""
        words = memory.reserve(size)
        words[:] = range(1, len(words) + 1)

    @pytest.mark.parametrize("size", [4, 4096, 4100, SMALL, SMALL + 4])
    def test_has_the_size_that_was_asked_for(self, size: int) -> None:
        words = LaneMemory().reserve(size)
        assert (words.nbytes, words.itemsize, words.dtype.kind) == (size, 4, "u")
        assert words.ctypes.data % 64 == 0
        words[:] = 1

    def test_is_the_same_when_as_much_is_asked_for_again(self) -> None:
        memory = LaneMemory()
        self.filled(memory, self.SMALL)
        first = memory.reserve(self.SMALL)
        assert (first[0], first[-1]) == (1, self.SMALL // 4)
        second = memory.reserve(self.SMALL)
        second[0] = 77
        assert first[0] == 77

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it may be new")
    def test_keeps_its_pages_when_it_grows(self) -> None:
        memory = LaneMemory()
        self.filled(memory, self.SMALL)
        words = memory.reserve(self.LARGE)
        assert words.nbytes == self.LARGE
        assert (words[0], words[self.SMALL // 4 - 1]) == (1, self.SMALL // 4)
        assert not words[self.SMALL // 4 :].any()

    def test_grows_while_an_array_is_held(self) -> None:
        memory = LaneMemory()
        held = memory.reserve(self.SMALL)
        held[:] = 5
        words = memory.reserve(self.LARGE)
        words[:] = 6
        assert (held == 5).all()

    def test_gives_back_what_is_above_when_it_shrinks(self) -> None:
        """What was given back comes again as zeros."""
        memory = LaneMemory()
        self.filled(memory, self.LARGE)
        assert memory.reserve(self.SMALL).nbytes == self.SMALL
        again = memory.reserve(self.LARGE)
        assert again[self.SMALL // 4 - 1] in (0, self.SMALL // 4)
        assert not again[self.SMALL // 4 :].any()

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it may be new")
    def test_keeps_what_is_below_when_it_shrinks(self) -> None:
        """Also the page in the middle of which the new size ends."""
        memory = LaneMemory()
        self.filled(memory, self.LARGE)
        words = memory.reserve(self.SMALL + 4)
        assert words[-1] == len(words) == self.SMALL // 4 + 1
        page = memory.reserve(self.SMALL + mmap.PAGESIZE)
        assert page[-1] == len(page)

    @pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="not told here")
    def test_shrinking_and_closing_free_it(self) -> None:
        def resident() -> int:
            return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

        memory, large = LaneMemory(), 256 * MIB
        before = resident()
        memory.reserve(large)[:] = 1
        assert resident() - before > large // 2
        memory.reserve(large // 8)
        assert resident() - before < large // 2
        memory.reserve(large)[:] = 1
        memory.close()
        assert resident() - before < large // 2

    def test_is_closed_twice_and_reserved_from_again(self) -> None:
        memory = LaneMemory()
        memory.close()
        self.filled(memory, self.SMALL)
        memory.close()
        memory.close()
        assert not memory.reserve(self.SMALL).any()

    def test_an_array_outlives_the_closing(self) -> None:
        memory = LaneMemory()
        words = memory.reserve(self.SMALL)
        words[:] = 9
        memory.close()
        assert (words == 9).all()
        assert not memory.reserve(self.SMALL).any()

    @pytest.mark.parametrize("size", [1 << 62, 1 << 63, 1 << 70])
    def test_that_is_not_there_is_told(self, size: int) -> None:
        memory = LaneMemory()
        for _ in range(2):  # with nothing reserved, and when it should grow
            with pytest.raises(NotEnoughMemory, match=f"{size // MIB} MiB are needed"):
                memory.reserve(size)
            assert memory.reserve(self.SMALL).nbytes == self.SMALL

    def test_that_the_system_refuses_is_told(self) -> None:
        out = run_python(
            "import resource\n"
            "from qbackup.errors import NotEnoughMemory\n"
            "from qbackup.lanes import LaneMemory\n"
            "memory = LaneMemory()\n"
            "print(memory.reserve(1 << 20).nbytes)\n"
            f"resource.setrlimit(resource.RLIMIT_AS, ({2 * GIB}, {2 * GIB}))\n"
            "for size in (1 << 31, 1 << 22):\n"
            "    try:\n"
            "        print(memory.reserve(size).nbytes)\n"
            "    except NotEnoughMemory as error:\n"
            "        print(error)\n"
            "try:\n"
            "    memory.touch(1 << 31, 1.0)\n"
            "except NotEnoughMemory as error:\n"
            "    print(error)\n"
        )
        words = "not enough memory to derive keys: 2048 MiB are needed"
        assert out.splitlines() == [str(1 << 20), words, str(1 << 22), words]

    def test_touch_is_done_all_over_where_there_is_time(self) -> None:
        memory = LaneMemory()
        memory.reserve(self.LARGE)[:] = 1
        assert memory.touch(self.LARGE, 1000.0) > 0
        words = memory.reserve(self.LARGE)
        assert [4 * int(at) for at in (words == 0).nonzero()[0]] == [
            0,
            2 * MIB,
            4 * MIB,
            6 * MIB,
            8 * MIB,
        ]

    def test_touch_stops_after_a_page_where_there_is_none(self) -> None:
        memory = LaneMemory()
        memory.reserve(self.LARGE)[:] = 1
        assert memory.touch(self.LARGE, 0.0) > 0
        assert (memory.reserve(self.LARGE) == 0).nonzero()[0].tolist() == [0]

    def test_touch_counts_no_more_than_there_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """By a clock that goes on by a second whenever it is read."""
        seconds = iter(range(100))
        monkeypatch.setattr("qbackup.lanes.time.perf_counter", lambda: float(next(seconds)))
        assert LaneMemory().touch(1000, 0.5) == 1 / 1000
        assert LaneMemory().touch(5 * MIB, 1000.0) == 3 / (5 * MIB)
        assert LaneMemory().touch(64 * MIB, 2.0) == 2 / (4 * MIB)


class WithoutResize(mmap.mmap):
    """As on a system that can't."""

    def resize(self, newsize: int) -> None:
        raise SystemError("mmap: resizing not available--no mremap()")


class WithoutAdvice(mmap.mmap):
    """As on a kernel that was built without huge pages."""

    def madvise(self, *arguments: int) -> None:
        raise OSError(22, "Invalid argument")


@pytest.mark.usefixtures("turbo")
class TestMemoryElsewhere:
    def grow_and_shrink(self) -> None:
        memory = LaneMemory()
        for size in (MIB, 4 * MIB, MIB // 2, 2 * MIB, 8 * MIB):
            words = memory.reserve(size)
            assert words.nbytes == size
            words[:] = size
            assert (words == size).all()
            del words
        memory.close()

    @pytest.mark.parametrize("platform", ["win32", "darwin", "freebsd14"])
    def test_on_other_systems(self, monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
        """What lies above a smaller size goes with the whole mapping."""
        monkeypatch.setattr(lanes, "sys", SimpleNamespace(platform=platform))
        self.grow_and_shrink()
        memory = LaneMemory()
        memory.reserve(8 * MIB)[:] = 1
        memory.reserve(MIB)
        assert not memory.reserve(8 * MIB)[MIB // 4 :].any()

    def test_where_nothing_can_grow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mmap, "mmap", WithoutResize)
        self.grow_and_shrink()

    def test_where_there_are_no_huge_pages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
        self.grow_and_shrink()

    @pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="not asked for here")
    def test_where_the_kernel_knows_no_huge_pages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mmap, "mmap", WithoutAdvice)
        assert LaneMemory().reserve(MIB).nbytes == MIB


def number(value: Any) -> int:
    """A size as pycryptodome hands it over: by ctypes an object, by cffi the number."""
    return int(getattr(value, "value", value))


def write(output: Any, content: bytes) -> None:
    """Into a C buffer of either kind."""
    for at, byte in enumerate(content):
        output[at] = byte


class Library:
    """pycryptodome's ROMix with the interface of another version; the same function computes."""

    CORE = object()  # stands for the C function that older versions hand over, in newer ones

    def __init__(self) -> None:
        from Crypto.Protocol import KDF

        self.core = getattr(getattr(KDF, "_raw_salsa20_lib", None), "Salsa20_8_core", self.CORE)
        lane_mix.cache_clear()
        self.real = lane_mix()
        self.calls = 0
        self.status = 0
        lane_mix.cache_clear()

    def of_range(
        self, lanes: bytes, output: Any, size: Any, n: int, first: Any, count: Any, total: Any
    ) -> int:
        """4.4: some of the lanes of one key."""
        assert (number(first), number(count)) == (0, len(lanes) // number(size))
        assert number(total) == len(lanes)
        self.calls += 1
        write(output, self.real(lanes, number(size), n))
        return self.status

    def of_each(self, lane: bytes, output: Any, size: Any, n: int, core: object) -> int:
        """3.9 to 3.23: one lane."""
        assert core is self.core
        assert len(lane) == number(size)
        self.calls += 1
        write(output, self.real(lane, number(size), n))
        return self.status

    def wrong(self, lanes: bytes, output: Any, *rest: Any) -> int:
        write(output, bytes(len(lanes)))
        return 0


def with_threads(password: bytes, threads: int = 1) -> None:
    """The signature by which newer versions are known."""


def without_threads(password: bytes) -> None:
    """The signature by which older versions are known."""


class TestLaneMix:
    """pycryptodome's ROMix, lane by lane: the version that is installed."""

    @given(
        st.binary(max_size=50),
        st.binary(max_size=50),
        st.integers(1, 8),
        st.integers(1, 9),
        st.integers(1, 10),
    )
    @settings(deadline=None, max_examples=50)
    def test_gives_the_keys_of_openssl(
        self, secret: bytes, salt: bytes, log2_n: int, r: int, p: int
    ) -> None:
        job = Derivation(secret, salt, ScryptParameters(log2_n, r, p))
        mixed = lane_mix()(expand(job), 128 * r, job.parameters.n)
        assert type(mixed) is bytes
        assert finish(job, mixed) == key_of(job)

    def test_is_looked_for_once(self) -> None:
        assert lane_mix() is lane_mix()

    def test_memory_that_is_not_there_is_told(self) -> None:
        out = run_python(
            "import resource\n"
            "from qbackup.errors import NotEnoughMemory\n"
            "from qbackup.lanes import lane_mix\n"
            "mix = lane_mix()\n"
            f"resource.setrlimit(resource.RLIMIT_AS, ({GIB}, {GIB}))\n"
            "try:\n"
            "    mix(bytes(1024), 1024, 1 << 20)\n"
            "except NotEnoughMemory as error:\n"
            "    print(error)\n"
            "print(len(mix(bytes(1024), 1024, 16)))\n"
        )
        assert out.splitlines() == ["not enough memory to derive a key", "1024"]


@pytest.mark.usefixtures("forgotten")
class TestLaneMixOfOtherVersions:
    @pytest.fixture
    def library(self) -> Library:
        return Library()

    @pytest.fixture
    def install(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        """`install(function, signature)` puts another version in pycryptodome's place."""
        from Crypto.Protocol import KDF

        def put(function: Callable[..., int], signature: Callable[..., None]) -> None:
            monkeypatch.setattr(KDF, "_raw_scrypt_lib", SimpleNamespace(scryptROMix=function))
            if not hasattr(KDF, "_raw_salsa20_lib"):
                salsa = SimpleNamespace(Salsa20_8_core=Library.CORE)
                monkeypatch.setattr(KDF, "_raw_salsa20_lib", salsa, raising=False)
            monkeypatch.setattr(KDF, "scrypt", signature)

        return put

    @pytest.mark.parametrize("version", ["of_range", "of_each"])
    def test_each_interface_gives_the_same_keys(
        self, library: Library, install: Callable[..., None], version: str
    ) -> None:
        signature = {"of_range": with_threads, "of_each": without_threads}[version]
        install(getattr(library, version), signature)
        for log2_n, r, p in ((4, 8, 5), (3, 1, 1), (5, 3, 8)):
            job = Derivation(b"secret", b"salt", ScryptParameters(log2_n, r, p))
            mix = lane_mix()
            library.calls = 0
            assert finish(job, mix(expand(job), 128 * r, 1 << log2_n)) == key_of(job)
            assert library.calls == (1 if version == "of_range" else p)

    @pytest.mark.parametrize("version", ["of_range", "of_each"])
    def test_a_failed_call_is_a_want_of_memory(
        self, library: Library, install: Callable[..., None], version: str
    ) -> None:
        signature = {"of_range": with_threads, "of_each": without_threads}[version]
        install(getattr(library, version), signature)
        mix = lane_mix()
        library.status = 2
        with pytest.raises(NotEnoughMemory):
            mix(bytes(2 * LANE), LANE, 16)

    @pytest.mark.parametrize("signature", [with_threads, without_threads])
    def test_a_wrong_answer_is_noticed(
        self, library: Library, install: Callable[..., None], signature: Callable[..., None]
    ) -> None:
        install(library.wrong, signature)
        with pytest.raises(MachineError, match="no ROMix on this machine"):
            lane_mix()

    def test_every_lane_is_looked_at(self, library: Library, install: Callable[..., None]) -> None:
        """One that mixes the first lane only is not taken."""

        def first_only(lanes: bytes, output: Any, size: Any, n: int, *rest: Any) -> int:
            write(output, library.real(lanes[: number(size)], number(size), n))
            return 0

        install(first_only, with_threads)
        with pytest.raises(MachineError):
            lane_mix()

    def test_other_arguments_are_noticed(
        self, library: Library, install: Callable[..., None]
    ) -> None:
        install(library.of_range, without_threads)
        with pytest.raises(MachineError):
            lane_mix()
        install(library.of_each, with_threads)
        with pytest.raises(MachineError):
            lane_mix()

    @pytest.mark.parametrize("error", [OSError, RuntimeError, OverflowError, MemoryError])
    def test_any_way_to_fail_is_a_no(
        self, install: Callable[..., None], error: type[Exception]
    ) -> None:
        def fail(*arguments: Any) -> int:
            raise error("not today")

        install(fail, with_threads)
        with pytest.raises(MachineError, match="no ROMix"):
            lane_mix()

    @pytest.mark.parametrize("version", [(2, 6, "1"), (3, 8, "2"), (5, 0, "0"), (5, 1, "0b1")])
    def test_a_version_that_is_not_known_is_not_called(
        self,
        library: Library,
        install: Callable[..., None],
        version: tuple[int, int, str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        install(library.of_range, with_threads)
        monkeypatch.setattr("Crypto.version_info", version)
        with pytest.raises(MachineError, match=r"qbackup\[turbo\] or pycryptodome"):
            lane_mix()
        assert library.calls == 0

    @pytest.mark.parametrize("version", [(3, 9, "0"), (3, 23, "0"), (4, 99, "0")])
    def test_a_version_that_is_known_is_tried(
        self,
        library: Library,
        install: Callable[..., None],
        version: tuple[int, int, str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        install(library.of_range, with_threads)
        monkeypatch.setattr("Crypto.version_info", version)
        lane_mix()
        assert library.calls == 1

    def test_without_pycryptodome_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("Crypto", "Crypto.Protocol", "Crypto.Util"):
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MachineError, match="no ROMix on this machine"):
            lane_mix()

    @pytest.mark.parametrize("name", ["_raw_scrypt_lib", "scrypt"])
    def test_a_name_that_is_gone_is_told(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        monkeypatch.delattr(f"Crypto.Protocol.KDF.{name}")
        with pytest.raises(MachineError, match="no ROMix on this machine"):
            lane_mix()

    def test_what_failed_is_tried_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch:
            patch.delattr("Crypto.Protocol.KDF._raw_scrypt_lib")
            with pytest.raises(MachineError):
                lane_mix()
        assert len(lane_mix()(bytes(LANE), LANE, 2)) == LANE
