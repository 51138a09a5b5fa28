"""Lanes: several at once, they are what RFC 7914 says."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import random
import subprocess
import sys
import threading
from array import array
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qbackup.base.errors import MachineError, NotEnoughMemory
from qbackup.base.limits import GIB, MIB
from qbackup.crypto.kdf import Derivation
from qbackup.crypto.romix import kernel as kernel_module
from qbackup.crypto.romix.kernel import LaneKernel, LaneMemory, RomixFunction, load_kernel
from qbackup.crypto.romix.tuning import WIDTH
from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.crypto.scrypt_steps import expand, finish
from tests.support.derivations import key_of, need_llvmlite, plain_romix
from tests.support.speed import rows

LANE = 1024  # bytes of a lane with r = 8


@pytest.fixture(scope="module")
def kernel() -> LaneKernel:
    """Each number of lanes is compiled once."""
    need_llvmlite()
    return load_kernel()


def blocks_of(count: int, seed: int) -> bytes:
    """Lanes with any content."""
    return random.Random(seed).randbytes(count * LANE)


def run_python(program: str, **environment: str) -> str:
    """What a program writes, in a process of its own."""
    return subprocess.check_output(
        [sys.executable, "-c", program], text=True, env={**os.environ, **environment}
    )


class TestKernel:
    @pytest.mark.slow
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

    @pytest.mark.slow
    @given(
        st.binary(max_size=50),
        st.binary(max_size=50),
        st.integers(1, 12),
        st.integers(1, WIDTH),
    )
    @settings(deadline=None, max_examples=60)
    def test_gives_the_keys_of_openssl(
        self, kernel: LaneKernel, secret: bytes, salt: bytes, log2_n: int, p: int
    ) -> None:
        job = Derivation(secret, salt, ScryptParameters(log2_n, 8, p))
        mixed = kernel.romix(expand(job), job.parameters, LaneMemory())
        assert finish(job, mixed) == key_of(job)

    @given(st.integers(0), st.integers(1, 4), st.integers(1, WIDTH))
    @settings(deadline=None, max_examples=20)
    def test_mixes_any_blocks_as_the_rfc_says(
        self, kernel: LaneKernel, seed: int, log2_n: int, count: int
    ) -> None:
        blocks = blocks_of(count, seed)
        parameters = ScryptParameters(log2_n, 8, count)
        mixed = kernel.romix(blocks, parameters, LaneMemory())
        assert mixed == plain_romix(blocks, parameters.n)

    @pytest.mark.parametrize("fill", [b"\0", b"\xff", b"\x80\0\0\0", b"\1\0\0\0"])
    @pytest.mark.parametrize("count", range(1, WIDTH + 1))
    def test_carries_and_rotates_every_bit(
        self, kernel: LaneKernel, fill: bytes, count: int
    ) -> None:
        blocks = fill * (count * LANE // len(fill))
        mixed = kernel.romix(blocks, ScryptParameters(5, 8, 1), LaneMemory())
        assert mixed == plain_romix(blocks[:LANE], 32) * count

    def test_one_pass_may_serve_several_keys(self, kernel: LaneKernel) -> None:
        """Three keys, of 1, 3 and 2 lanes; and back in the order in which they came."""
        jobs = [
            Derivation(secret, b"salt", ScryptParameters(8, 8, p))
            for secret, p in ((b"one", 1), (b"three", 3), (b"two", 2))
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
        for log2_n, count in ((9, 3), (4, 6), (9, 6), (2, 1), (9, 2)):
            blocks, parameters = blocks_of(count, log2_n), ScryptParameters(log2_n, 8, 1)
            mixed = kernel.romix(blocks, parameters, memory)
            assert mixed == kernel.romix(blocks, parameters, LaneMemory())

    @pytest.mark.parametrize("kind", [bytes, bytearray, lambda data: memoryview(bytearray(data))])
    def test_takes_bytes_of_any_kind_and_changes_none(
        self, kernel: LaneKernel, kind: Callable[[bytes], Any]
    ) -> None:
        blocks = blocks_of(2, 7)
        given = kind(blocks)
        mixed = kernel.romix(given, ScryptParameters(3, 8, 1), LaneMemory())
        assert mixed == plain_romix(blocks, 8)
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
                kernel.romix(
                    blocks_of(WIDTH - number, 100 * number + seed), parameters, LaneMemory()
                )
                for seed in range(5)
            ]

    def test_other_threads_run_meanwhile(self, kernel: LaneKernel) -> None:
        """One sees V half filled. It may miss that, so there are many chances."""
        parameters, memory = ScryptParameters(15, 8, 1), LaneMemory()
        blocks = blocks_of(1, 5)

        def sees_it_half_filled() -> bool:
            v = memory.reserve(parameters.lane_memory)
            v[:] = bytes(len(v))
            arguments = (blocks, parameters, memory)
            thread = threading.Thread(target=kernel.romix, args=arguments)
            thread.start()
            seen = False
            while thread.is_alive() and not seen:
                end_is_empty = not any(v[-LANE:])
                seen = any(v[:LANE]) and end_is_empty and not any(v[-LANE:])
            thread.join()
            return seen

        assert any(sees_it_half_filled() for _ in range(100))


class TestKernelsBounds:
    @pytest.mark.parametrize(
        ("log2_n", "r", "width"),
        [
            (1, 8, 6),
            (2, 8, 6),
            (18, 8, 6),
            (32, 8, 6),
            (0, 8, 0),
            (33, 8, 0),
            (18, 7, 0),
            (18, 16, 0),
        ],
    )
    def test_width_tells_what_it_is_made_for(self, log2_n: int, r: int, width: int) -> None:
        kernel = LaneKernel(lambda lanes: pytest.fail("compiled"))
        assert kernel.width(ScryptParameters(log2_n, r, 5)) == width

    @pytest.mark.parametrize("size", [0, 1, LANE - 1, LANE + 1, 7 * LANE, 16 * LANE])
    def test_no_whole_number_of_lanes_is_refused(self, kernel: LaneKernel, size: int) -> None:
        with pytest.raises(ValueError, match=f"no {size} bytes of lanes"):
            kernel.romix(bytes(size), ScryptParameters(4, 8, 1), LaneMemory())

    @pytest.mark.parametrize(("log2_n", "r"), [(4, 4), (4, 16), (0, 8), (33, 8)])
    def test_other_parameters_are_refused(self, kernel: LaneKernel, log2_n: int, r: int) -> None:
        with pytest.raises(ValueError, match="bytes of lanes"):
            kernel.romix(bytes(LANE), ScryptParameters(log2_n, r, 1), LaneMemory())

    def test_memory_that_is_not_there_is_told(self, kernel: LaneKernel) -> None:
        """Under a real limit of the system; a smaller pass in the same memory goes on."""
        out = run_python(
            "import resource\n"
            "from qbackup.base.errors import NotEnoughMemory\n"
            "from qbackup.crypto.romix.kernel import LaneMemory, load_kernel\n"
            "from qbackup.crypto.scrypt_format import ScryptParameters\n"
            "kernel, memory = load_kernel(4), LaneMemory()\n"
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


class TestLoading:
    def test_llvmlite_is_looked_for_and_not_imported(self) -> None:
        program = (
            "import sys\n"
            "from qbackup.crypto.romix.kernel import llvmlite_is_installed\n"
            "there = llvmlite_is_installed()\n"
            "print('llvmlite' in sys.modules)\n"
            "sys.modules['llvmlite'] = None\n"
            "print(llvmlite_is_installed())\n"
        )
        assert run_python(program).split() == ["False", "False"]

    def test_without_llvmlite_is_an_import_error(self) -> None:
        program = (
            "import sys\n"
            "from qbackup.crypto.romix.kernel import load_kernel\n"
            "sys.modules['llvmlite'] = None\n"
            "try:\n"
            "    load_kernel()\n"
            "except ImportError:\n"
            "    print('ImportError')\n"
        )
        assert run_python(program).split() == ["ImportError"]

    def test_needs_nothing_but_llvmlite(self, kernel: LaneKernel) -> None:
        program = (
            "import sys\n"
            "for name in ('numba', 'numpy'):\n"
            "    sys.modules[name] = None\n"
            "from qbackup.crypto.romix.kernel import load_kernel\n"
            "load_kernel(2)\n"
            "print('loaded')\n"
        )
        assert run_python(program).split() == ["loaded"]

    @rows("count", range(1, WIDTH + 1), quick=2)
    @rows("lane", [0, -1], quick=2)
    def test_code_that_gives_wrong_keys_is_refused(
        self, kernel: LaneKernel, count: int, lane: int
    ) -> None:
        """One bit of one lane is wrong, with one number of lanes only."""

        def compiled(lanes: int) -> RomixFunction:
            def romix(blocks: bytes | bytearray | memoryview, v: int, n: int) -> bytes:
                mixed = bytearray(kernel.prepare(lanes)(blocks, v, n))
                mixed[(lane % lanes) * LANE + 77] ^= lanes == count
                return bytes(mixed)

            return romix

        wrong = LaneKernel(compiled)
        for number in range(1, WIDTH + 1):
            if number == count:
                with pytest.raises(MachineError, match="wrong keys"):
                    wrong.prepare(number)
            else:
                wrong.prepare(number)

    def test_wrong_keys_are_refused_when_it_is_loaded(
        self, kernel: LaneKernel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "qbackup.crypto.romix.llvm_code.Romix", lambda lanes: lambda blocks, v, n: blocks
        )
        with pytest.raises(MachineError, match="wrong keys"):
            load_kernel(3)

    def test_code_is_compiled_once_for_each_number_of_lanes(self, kernel: LaneKernel) -> None:
        asked = []

        def compiled(lanes: int) -> RomixFunction:
            asked.append(lanes)
            return kernel.prepare(lanes)

        counting, parameters = LaneKernel(compiled), ScryptParameters(4, 8, 1)
        together = threading.Barrier(4)

        def work() -> None:
            together.wait()
            for number in (3, 5, 3, 6):
                counting.romix(bytes(number * LANE), parameters, LaneMemory())

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(asked) == [3, 5, 6]


class TestVectors:
    @pytest.mark.parametrize(
        ("lanes", "parts"),
        [
            (1, (1,)),
            (2, (2,)),
            (3, (2, 1)),
            (4, (4,)),
            (5, (4, 1)),
            (6, (4, 2)),
            (7, (4, 2, 1)),
            (8, (4, 4)),
        ],
    )
    def test_hold_all_lanes(self, kernel: LaneKernel, lanes: int, parts: tuple[int, ...]) -> None:
        from qbackup.crypto.romix.llvm_writer import parts_of

        assert parts_of(lanes) == parts

    @pytest.mark.slow
    @pytest.mark.parametrize("processor", ["x86-64", "x86-64-v3", "x86-64-v4"])
    @pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="of another kind")
    def test_of_any_width_give_the_same(
        self, kernel: LaneKernel, monkeypatch: pytest.MonkeyPatch, processor: str
    ) -> None:
        """128, 256 and 512 bits, as far as this processor has them."""
        from llvmlite import binding

        from qbackup.crypto.romix.llvm_code import Romix

        if processor == "x86-64-v4" and not binding.get_host_cpu_features().get("avx512vl"):
            pytest.skip("not on this processor")
        monkeypatch.setattr(binding, "get_host_cpu_name", lambda: processor)
        monkeypatch.setattr(binding, "get_host_cpu_features", unknown)
        LaneKernel(Romix).prepare(WIDTH)


def unknown() -> None:
    """As on processors that LLVM can't ask."""
    raise RuntimeError("Couldn't determine host CPU features")


def numbers(size: int) -> array[int]:
    """Words for so many bytes, each with a number of its own."""
    return array("I", range(1, size // 4 + 1))


def content(memory: memoryview) -> memoryview:
    """Its words."""
    return memory.cast("I")


class TestMemory:
    SMALL = 4 * MIB
    LARGE = 9 * MIB

    def filled(self, memory: LaneMemory, size: int) -> None:
        """Every word gets a number of its own, and nobody holds a view."""
        content(memory.reserve(size))[:] = numbers(size)

    @pytest.mark.parametrize("size", [4, 4096, 4100, SMALL, SMALL + 4])
    def test_has_the_size_that_was_asked_for(self, size: int) -> None:
        view = LaneMemory().reserve(size)
        assert len(view) == view.nbytes == size
        assert ctypes.addressof(ctypes.c_char.from_buffer(view)) % 64 == 0
        view[:] = bytes(size)

    def test_is_the_same_when_as_much_is_asked_for_again(self) -> None:
        memory = LaneMemory()
        self.filled(memory, self.SMALL)
        first = content(memory.reserve(self.SMALL))
        assert (first[0], first[-1]) == (1, self.SMALL // 4)
        second = content(memory.reserve(self.SMALL))
        second[0] = 77
        assert first[0] == 77

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it may be new")
    def test_keeps_its_pages_when_it_grows(self) -> None:
        memory = LaneMemory()
        self.filled(memory, self.SMALL)
        view = memory.reserve(self.LARGE)
        assert len(view) == self.LARGE
        assert content(view)[: self.SMALL // 4] == numbers(self.SMALL)
        assert not any(view[self.SMALL :])

    def test_grows_while_a_view_is_held(self) -> None:
        memory = LaneMemory()
        held = memory.reserve(self.SMALL)
        held[:] = b"\5" * self.SMALL
        view = memory.reserve(self.LARGE)
        view[:] = b"\6" * self.LARGE
        assert held == b"\5" * self.SMALL

    def test_keeps_all_when_less_is_asked_for(self) -> None:
        memory = LaneMemory()
        self.filled(memory, self.LARGE)
        assert len(memory.reserve(self.SMALL)) == self.SMALL
        assert content(memory.reserve(self.LARGE)) == numbers(self.LARGE)

    def test_gives_back_what_is_above_when_it_shrinks(self) -> None:
        """What was given back comes again as zeros."""
        memory = LaneMemory()
        self.filled(memory, self.LARGE)
        memory.shrink(self.SMALL)
        again = content(memory.reserve(self.LARGE))
        assert again[self.SMALL // 4 - 1] in (0, self.SMALL // 4)
        assert not any(again[self.SMALL // 4 :])

    def test_shrinking_to_more_than_there_is_changes_nothing(self) -> None:
        memory = LaneMemory()
        memory.shrink(self.LARGE)
        self.filled(memory, self.SMALL)
        memory.shrink(self.LARGE)
        assert content(memory.reserve(self.SMALL)) == numbers(self.SMALL)

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it may be new")
    def test_keeps_what_is_below_when_it_shrinks(self) -> None:
        """Also the page in the middle of which the new size ends."""
        memory = LaneMemory()
        self.filled(memory, self.LARGE)
        memory.shrink(self.SMALL + 4)
        page = content(memory.reserve(self.SMALL + mmap.PAGESIZE))
        assert page == numbers(self.SMALL + mmap.PAGESIZE)

    @pytest.mark.slow
    @pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="not told here")
    def test_shrinking_and_closing_free_it(self) -> None:
        def resident() -> int:
            return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

        def touch(size: int) -> None:
            view = memory.reserve(size)
            for at in range(0, size, mmap.PAGESIZE):
                view[at] = 1

        memory, large = LaneMemory(), 256 * MIB
        before = resident()
        touch(large)
        assert resident() - before > large // 2
        memory.shrink(large // 8)
        assert resident() - before < large // 2
        touch(large)
        memory.close()
        assert resident() - before < large // 2

    def test_is_closed_twice_and_reserved_from_again(self) -> None:
        memory = LaneMemory()
        memory.close()
        self.filled(memory, self.SMALL)
        memory.close()
        memory.close()
        assert not any(memory.reserve(self.SMALL))

    def test_a_view_outlives_the_closing(self) -> None:
        memory = LaneMemory()
        view = memory.reserve(self.SMALL)
        view[:] = b"\x09" * self.SMALL
        memory.close()
        assert view == b"\x09" * self.SMALL
        assert not any(memory.reserve(self.SMALL))

    @pytest.mark.parametrize("size", [1 << 62, 1 << 63, 1 << 70])
    def test_that_is_not_there_is_told(self, size: int) -> None:
        memory = LaneMemory()
        for _ in range(2):  # with nothing reserved, and when it should grow
            with pytest.raises(NotEnoughMemory, match=f"{size // MIB} MiB are needed"):
                memory.reserve(size)
            assert len(memory.reserve(self.SMALL)) == self.SMALL

    def test_that_the_system_refuses_is_told(self) -> None:
        out = run_python(
            "import resource\n"
            "from qbackup.base.errors import NotEnoughMemory\n"
            "from qbackup.crypto.romix.kernel import LaneMemory\n"
            "memory = LaneMemory()\n"
            "print(len(memory.reserve(1 << 20)))\n"
            f"resource.setrlimit(resource.RLIMIT_AS, ({2 * GIB}, {2 * GIB}))\n"
            "for size in (1 << 31, 1 << 22):\n"
            "    try:\n"
            "        print(len(memory.reserve(size)))\n"
            "    except NotEnoughMemory as error:\n"
            "        print(error)\n"
        )
        words = "not enough memory to derive keys: 2048 MiB are needed"
        assert out.splitlines() == [str(1 << 20), words, str(1 << 22)]


class WithoutResize(mmap.mmap):
    """As on a system that can't."""

    def resize(self, newsize: int) -> None:
        raise SystemError("mmap: resizing not available--no mremap()")


class WithoutAdvice(mmap.mmap):
    """As on a kernel that was built without huge pages."""

    def madvise(self, *arguments: int) -> None:
        raise OSError(22, "Invalid argument")


class TestMemoryElsewhere:
    def grow_and_shrink(self) -> None:
        memory = LaneMemory()
        for size in (MIB, 4 * MIB, MIB // 2, 2 * MIB, 8 * MIB):
            view = memory.reserve(size)
            assert len(view) == size
            view[:] = b"\7" * size
            assert view == b"\7" * size
            del view
            memory.shrink(size // 2)
        memory.close()

    @pytest.mark.parametrize("platform", ["win32", "darwin", "freebsd14"])
    def test_on_other_systems(self, monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
        """What lies above a smaller size goes with the whole mapping."""
        monkeypatch.setattr(kernel_module, "sys", SimpleNamespace(platform=platform))
        self.grow_and_shrink()
        memory = LaneMemory()
        memory.reserve(8 * MIB)[:] = b"\1" * 8 * MIB
        memory.shrink(MIB)
        assert not any(memory.reserve(8 * MIB)[MIB:])

    def test_where_nothing_can_grow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mmap, "mmap", WithoutResize)
        self.grow_and_shrink()

    def test_where_there_are_no_huge_pages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
        self.grow_and_shrink()

    @pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="not asked for here")
    def test_where_the_kernel_knows_no_huge_pages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mmap, "mmap", WithoutAdvice)
        assert len(LaneMemory().reserve(MIB)) == MIB


def test_the_program_waits_for_the_compiler_to_end() -> None:
    """LLVM's data go away with the program, under a thread that is in it."""
    code = """
import atexit, threading, time
from qbackup.crypto.romix import kernel as kernel_module

began = threading.Event()

def compile():
    with kernel_module._compiler:
        began.set()
        time.sleep(0.3)
        print("compiled", flush=True)

threading.Thread(target=compile, daemon=True).start()
began.wait()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "compiled\n"
