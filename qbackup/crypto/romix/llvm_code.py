"""scryptROMix (RFC 7914, section 5) on several lanes side by side, for r = 8, as machine code.

Only `qbackup.crypto.romix.kernel` imports this module, as llvmlite is optional. The function is
written in LLVM's vector instructions, which fit any processor, and compiled for a number of
lanes in a fraction of a second.

The words of a block are kept in the order of `ORDER`: four rows, such that a quarter round of
Salsa20 takes one word from each, and the four words of a round stand side by side. So a round is
one quarter round on whole rows. A vector holds the same row of up to four lanes. Each step of a
quarter round depends on the one before, so the lanes are divided among several independent
vectors, which the processor can work on at the same time.

* The state is X and after it Y, 16 blocks each. A block is four rows of the first vector, then
  four rows of the next.
* V holds one lane after another, each with n rows of 16 blocks: every lane reads a row of its own.
"""

from __future__ import annotations

import ctypes
import sys
from array import array
from collections.abc import Callable
from typing import Any

from llvmlite import binding

from qbackup.crypto.romix.llvm_writer import CACHE_LINE, LINE, ORDER, ROW, FunctionWriter, parts_of


class Romix:
    """The machine code for one number of lanes. Several threads may call it at once.

    Args:
        lanes: side by side, 1 or more.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        self._engine = _compiled(FunctionWriter(lanes).write())  # it owns the code
        kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64)
        self._code = kind(self._engine.get_function_address("romix"))

    def __call__(self, blocks: bytes | bytearray | memoryview, v: int, n: int) -> bytes:
        """Computes scryptROMix of each lane, without holding Python's lock.

        Args:
            blocks: the lanes, of 1,024 bytes each, one after another.
            v: address of 1,024·n bytes for each lane; a multiple of 16.
            n: N, a power of two from 2 to 2^32.

        Returns:
            The lanes in the same order.
        """
        words = array("I", bytes(blocks))
        size = len(words)  # of X, in words
        state = (ctypes.c_uint32 * (2 * size + LINE))()
        address = -(-ctypes.addressof(state) // CACHE_LINE) * CACHE_LINE
        given = self._rearranged(words, lambda state, lanes: (state, lanes))
        ctypes.memmove(address, given.tobytes(), 4 * size)
        self._code(address, v, n)
        mixed = array("I", ctypes.string_at(address, 4 * size))
        return self._rearranged(mixed, lambda state, lanes: (lanes, state)).tobytes()

    def _rearranged(
        self, words: array[int], way: Callable[[slice, slice], tuple[slice, slice]]
    ) -> array[int]:
        """Rearranges words from lane after lane into the order of the state, or back.

        Args:
            words: of X.
            way: (places in the state, places in the lanes) → (to, from).
        """
        if sys.byteorder == "big":
            words.byteswap()
        result = array("I", bytes(4 * len(words)))
        first = 0
        for count in parts_of(self._lanes):
            for lane in range(count):
                own = (first + lane) * ROW
                for place, word in enumerate(ORDER):
                    row, column = divmod(place, 4)
                    start = LINE * first + 4 * (count * row + lane) + column
                    to, source = way(
                        slice(start, None, LINE * self._lanes),
                        slice(own + word, own + ROW, LINE),
                    )
                    result[to] = words[source]
            first += count
        if sys.byteorder == "big":
            result.byteswap()
        return result


def _compiled(text: str) -> Any:
    """Makes an engine with the machine code for this processor."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    module = binding.parse_assembly(text)
    module.verify()
    try:
        features = binding.get_host_cpu_features().flatten()
    except RuntimeError:  # on processors whose features LLVM can't detect
        features = ""
    machine = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=features, opt=3
    )
    engine = binding.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return engine
