"""scryptROMix (RFC 7914, section 5) on eight lanes side by side, for r = 8; compiled by numba.

Only `qbackup.lanes` imports this module, as numba is optional and slow to import. All that is
compiled stands in this one file: numba's cache on disk is renewed when its content changes.

The work is done on three arrays of 32-bit words:

* `work` holds T (the block that Salsa20/8 chains), X, Y and Z, 16 blocks each, and the masks. They
  are vertical: the words w of the eight lanes are adjacent, so that one vector instruction serves
  them all.
* `memory` is V: one lane after another, each with n rows of 16 blocks in the usual order of
  words, as the lanes read different rows.
* `lines` is the way between the two: one block (64 bytes, a cache line) of each lane.

Memory can be saved at the price of time: V may hold every second row only, or every fourth. What
is not there is computed again, from the row before it, while X waits in Z. A lane does that when
its own row is missing, whatever the others do: in a step one lane mixes X and its neighbour makes
a row, and each gets to its end on its own.

What the compiler would not vectorise by itself, or can't be told in Python, is an *operation*: its
body says in numpy what it does, and is what runs without numba's compiler; its emitter gives the
same as LLVM's vector instructions, which fit any processor. Compiled from plain loops the
transposition alone took as long as the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload, register_jitable

WIDTH = 8  # lanes
BLOCKS = 16  # blocks of 64 bytes in a row: 2·r
LINE = 16  # words in a block
BLOCK = LINE * WIDTH  # words of one block of all lanes
ROW = LINE * BLOCKS  # words of one row of V
T = 0
X = BLOCK
Y = X + BLOCKS * BLOCK
Z = Y + BLOCKS * BLOCK
# masks of what a lane does in a step, all ones or none
KEEP = Z + BLOCKS * BLOCK  # X goes in
RECALL = KEEP + WIDTH  # Z goes in
READ = RECALL + WIDTH  # a row of V goes in
SAVE = READ + WIDTH  # Z becomes X
WORK_WORDS = SAVE + WIDTH
LAST = (BLOCKS - 1) * BLOCK

# one double round of Salsa20 (RFC 7914, section 3): the words of each quarter round
_DOUBLE_ROUND = (
    ((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11)),
    ((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14)),
)
# a quarter round's steps: the word that changes, the two that are added, the rotation in bits
_STEPS = ((1, 0, 3, 7), (2, 1, 0, 9), (3, 2, 1, 13), (0, 3, 2, 18))

Words = Any  # a numpy array of uint32; numba and llvmlite have no types either
Value = Any  # a vector of eight words in LLVM
Operation = TypeVar("Operation", bound=Callable[[Words, int, Words, int], None])

_WORD = ir.IntType(32)
_VECTOR = ir.VectorType(_WORD, WIDTH)


class _Place(NamedTuple):
    """Where an operation reads or writes: an array, and a word in it."""

    builder: Any
    array: Any
    start: Any

    def pointer(self, word: int, kind: Any = _VECTOR) -> Any:
        """Points to a word, counted from the start."""
        index = self.builder.add(self.start, ir.IntType(64)(word))
        return self.builder.bitcast(self.builder.gep(self.array, [index]), kind.as_pointer())

    def from_start(self) -> _Place:
        """The first word of the same array."""
        return self._replace(start=ir.IntType(64)(0))

    def load(self, word: int) -> Value:
        """Eight words; any address will do."""
        return self.builder.load(self.pointer(word), align=4)

    def store(self, word: int, value: Value) -> None:
        """Eight words; any address will do."""
        self.builder.store(value, self.pointer(word), align=4)

    def stream(self, word: int, value: Value) -> None:
        """Eight words past the caches; the address is a multiple of 32."""
        store = self.builder.store(value, self.pointer(word), align=4 * WIDTH)
        store.set_metadata("nontemporal", self.builder.module.add_metadata([_WORD(1)]))


Emitter = Callable[[Any, _Place, _Place], None]


def _operation(emit: Emitter) -> Callable[[Operation], Operation]:
    """Compiled code gets what `emit` writes, where Python runs the function's body."""

    def typed(_: Any, to: Any, at: Any, source: Any, start: Any) -> tuple[Any, Any]:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            to_array, source_array = (
                context.make_array(signature.args[i])(context, builder, arguments[i]).data
                for i in (0, 2)
            )
            emit(
                builder,
                _Place(builder, to_array, arguments[1]),
                _Place(builder, source_array, arguments[3]),
            )
            return context.get_dummy_value()

        return types.void(to, types.int64, source, types.int64), generate

    instructions = intrinsic(typed)

    def register(function: Operation) -> Operation:
        overload(function, inline="always")(
            # numba asks for two functions of exactly one signature: the outer sees types
            lambda to, at, source, start: (
                lambda to, at, source, start: instructions(to, at, source, start)
            )
        )
        return function

    return register


def _emit_salsa(builder: Any, to: _Place, source: _Place) -> None:
    chained = to.from_start()
    before = [
        builder.xor(chained.load(WIDTH * word), source.load(WIDTH * word)) for word in range(LINE)
    ]
    x = list(before)
    for quarters in _DOUBLE_ROUND * 4:
        for target, one, other, bits in _STEPS:
            for quarter in quarters:
                total = builder.add(x[quarter[one]], x[quarter[other]])
                left, right = (ir.Constant(_VECTOR, [n] * WIDTH) for n in (bits, 32 - bits))
                rotated = builder.or_(builder.shl(total, left), builder.lshr(total, right))
                x[quarter[target]] = builder.xor(x[quarter[target]], rotated)
    for word in range(LINE):
        result = builder.add(x[word], before[word])
        chained.store(WIDTH * word, result)
        to.store(WIDTH * word, result)


@_operation(_emit_salsa)
def salsa(to: Words, at: int, source: Words, start: int) -> None:
    """T = Salsa20/8(T xor a block), also written to a block: a step of scryptBlockMix.

    T stands at the beginning of `to`. RFC 7914, sections 3 and 4.
    """
    before = (to[T : T + BLOCK] ^ source[start : start + BLOCK]).reshape(LINE, WIDTH)
    x = before.copy()
    for quarters in _DOUBLE_ROUND * 4:
        for target, one, other, bits in _STEPS:
            for quarter in quarters:
                total = x[quarter[one]] + x[quarter[other]]
                x[quarter[target]] ^= (total << np.uint32(bits)) | (total >> np.uint32(32 - bits))
    to[T : T + BLOCK] = to[at : at + BLOCK] = (x + before).ravel()


def _transposed(builder: Any, rows: list[Value]) -> list[Value]:
    """Eight vectors of eight: in three rounds, off-diagonal squares of 1, 2, 4 change places."""
    for square in (1, 2, 4):
        low = [j if not j & square else WIDTH + (j ^ square) for j in range(WIDTH)]
        high = [j | square if not j & square else WIDTH + j for j in range(WIDTH)]
        below, above = (ir.Constant(_VECTOR, indexes) for indexes in (low, high))
        for i in range(WIDTH):
            if not i & square:
                pair = rows[i], rows[i | square]
                rows[i] = builder.shuffle_vector(*pair, below)
                rows[i | square] = builder.shuffle_vector(*pair, above)
    return rows


def _emit_to_lines(builder: Any, to: _Place, source: _Place) -> None:
    for half in range(0, LINE, WIDTH):
        rows = [source.load(WIDTH * (half + word)) for word in range(WIDTH)]
        for lane, row in enumerate(_transposed(builder, rows)):
            to.store(LINE * lane + half, row)


@_operation(_emit_to_lines)
def to_lines(to: Words, at: int, source: Words, start: int) -> None:
    """A vertical block becomes a line of each lane."""
    block = source[start : start + BLOCK].reshape(LINE, WIDTH)
    to[at : at + BLOCK] = block.T.ravel()


def _emit_mix_lines(builder: Any, to: _Place, source: _Place) -> None:
    read = to.from_start().load(READ)
    for half in range(0, LINE, WIDTH):
        rows = [source.load(LINE * lane + half) for lane in range(WIDTH)]
        for word, row in enumerate(_transposed(builder, rows), half):
            mixed = builder.xor(to.load(WIDTH * word), builder.and_(row, read))
            to.store(WIDTH * word, mixed)


@_operation(_emit_mix_lines)
def mix_lines(to: Words, at: int, source: Words, start: int) -> None:
    """A vertical block is XORed with a line of each lane that reads."""
    lines = source[start : start + BLOCK].reshape(WIDTH, LINE)
    to[at : at + BLOCK] ^= (lines.T & to[READ : READ + WIDTH]).ravel()


def _emit_recall(builder: Any, to: _Place, source: _Place) -> None:
    masks = to.from_start()
    keep, recalled, save = masks.load(KEEP), masks.load(RECALL), masks.load(SAVE)
    for word in range(0, BLOCK, WIDTH):
        x, z = to.load(word), source.load(word)
        kept = builder.and_(x, keep)
        to.store(word, builder.xor(kept, builder.and_(z, recalled)))
        source.store(word, builder.xor(z, builder.and_(builder.xor(x, z), save)))


@_operation(_emit_recall)
def recall(to: Words, at: int, source: Words, start: int) -> None:
    """What goes in of a block of X and of Z, by lane; then X is saved as Z where it waits."""
    x = to[at : at + BLOCK].reshape(LINE, WIDTH)
    z = source[start : start + BLOCK].reshape(LINE, WIDTH)
    saved = z ^ ((x ^ z) & to[SAVE : SAVE + WIDTH])
    x[:] = (x & to[KEEP : KEEP + WIDTH]) ^ (z & to[RECALL : RECALL + WIDTH])
    z[:] = saved


def _emit_copy_line(builder: Any, to: _Place, source: _Place) -> None:
    for word in range(0, LINE, WIDTH):
        to.store(word, source.load(word))


@_operation(_emit_copy_line)
def copy_line(to: Words, at: int, source: Words, start: int) -> None:
    """Copies one line."""
    to[at : at + LINE] = source[start : start + LINE]


def _emit_stream_line(builder: Any, to: _Place, source: _Place) -> None:
    for word in range(0, LINE, WIDTH):
        to.stream(word, source.load(word))


@_operation(_emit_stream_line)
def stream_line(to: Words, at: int, source: Words, start: int) -> None:
    """Copies one line past the caches, to an address that is a multiple of 64.

    V is far larger than they are: an ordinary store would first read what it overwrites.
    """
    to[at : at + LINE] = source[start : start + LINE]


def _emit_prefetch_line(builder: Any, to: _Place, source: _Place) -> None:
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, _WORD, _WORD, _WORD])
    prefetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], fnty=kind)
    to_read, second_level_cache, data = _WORD(0), _WORD(2), _WORD(1)
    pointer = source.pointer(0, ir.IntType(8))
    builder.call(prefetch, [pointer, to_read, second_level_cache, data])


@_operation(_emit_prefetch_line)
def prefetch_line(to: Words, at: int, source: Words, start: int) -> None:
    """Has a line fetched while the processor goes on. `to` is not touched.

    Into the second cache: a row of every lane would drive X and Y out of the first.
    """


_inlined = register_jitable(inline="always")


def _place_of(block: int) -> int:
    """Where scryptBlockMix puts a block: the even ones first (RFC 7914, section 4, step 3)."""
    return BLOCK * ((block >> 1) + (block & 1) * (BLOCKS // 2))


def _start_chain(work: Words, here: int) -> None:
    """T = the last block."""
    for word in range(0, BLOCK, LINE):
        copy_line(work, T + word, work, here + LAST + word)


def _fill(work: Words, lines: Words, memory: Words, n: int, lanes: int, gap: int) -> None:
    """The first loop of scryptROMix: V[i] = X, X = scryptBlockMix(X)."""
    here, there = X, Y
    lane_words = n // gap * ROW
    row = 0
    for i in range(n):
        is_kept = i & (gap - 1) == 0
        _start_chain(work, here)
        for block in range(BLOCKS):
            start = here + BLOCK * block
            if is_kept:
                to_lines(lines, 0, work, start)
                for lane in range(lanes):
                    at = lane * lane_words + row + LINE * block
                    stream_line(memory, at, lines, LINE * lane)
            salsa(work, there + _place_of(block), work, start)
        if is_kept:
            row += ROW
        here, there = there, here


def _fetch_rows(rows: Words, lines: Words, memory: Words, lanes: int) -> None:
    """Has a row of V fetched for each lane.

    The lines come in the order in which scryptBlockMix needs them: the last one first.
    """
    for lane in range(lanes):
        prefetch_line(lines, 0, memory, rows[lane] + ROW - LINE)
    for block in range(BLOCKS - 1):
        for lane in range(lanes):
            prefetch_line(lines, 0, memory, rows[lane] + LINE * block)


def _fetch_row(lines: Words, memory: Words, row: int) -> None:
    """The same for one lane that reads while others don't."""
    prefetch_line(lines, 0, memory, row + ROW - LINE)
    for block in range(BLOCKS - 1):
        prefetch_line(lines, 0, memory, row + LINE * block)


def _set_masks(work: Words, lane: int, keep: bool, recalls: bool, read: bool, save: bool) -> None:
    ones = np.uint32(0xFFFFFFFF)
    none = np.uint32(0)
    work[KEEP + lane] = ones if keep else none
    work[RECALL + lane] = ones if recalls else none
    work[READ + lane] = ones if read else none
    work[SAVE + lane] = ones if save else none


def _choose_steps(
    work: Words,
    here: int,
    rows: Words,
    todo: Words,
    missing: Words,
    lines: Words,
    memory: Words,
    n: int,
    lanes: int,
    gap: int,
    shift: int,
) -> int:
    """What each lane does next; how many have anything to do.

    A lane that begins an iteration reads row j = Integerify(X) mod n, or the nearest before it
    that V holds. Where that is not j itself, X waits in Z until the row has been made.
    """
    busy = 0
    lane_words = n // gap * ROW
    for lane in range(lanes):
        if missing[lane] > 0:  # rows between the last that it has and j
            missing[lane] -= 1
            last = missing[lane] == 0
            _set_masks(work, lane, True, last, False, False)
            busy += 1
        elif todo[lane] > 0:
            todo[lane] -= 1
            j = np.int64(work[here + LAST + lane]) & (n - 1)
            missing[lane] = j & (gap - 1)
            rows[lane] = lane * lane_words + (j >> shift) * ROW
            _fetch_row(lines, memory, rows[lane])
            _set_masks(work, lane, missing[lane] == 0, False, True, missing[lane] > 0)
            busy += 1
        else:  # the result waits in Z for those that are not done yet
            _set_masks(work, lane, False, False, False, todo[lane] == 0)
            todo[lane] = -1
    return busy


def _choose_rows(
    work: Words, here: int, rows: Words, lines: Words, memory: Words, n: int, lanes: int
) -> None:
    """The row of V that each lane reads when there are no gaps: Integerify(X) mod n."""
    for lane in range(lanes):
        rows[lane] = (lane * n + (np.int64(work[here + LAST + lane]) & (n - 1))) * ROW
    _fetch_rows(rows, lines, memory, lanes)


def _mix_block(
    work: Words, here: int, rows: Words, lines: Words, memory: Words, block: int, lanes: int
) -> None:
    """X xor V[j], for one block."""
    for lane in range(lanes):
        copy_line(lines, LINE * lane, memory, rows[lane] + LINE * block)
    mix_lines(work, here + BLOCK * block, lines, 0)


def _mix_or_recall(
    work: Words, here: int, rows: Words, lines: Words, memory: Words, block: int, lanes: int
) -> None:
    """What goes into a lane's step, for one block."""
    recall(work, here + BLOCK * block, work, Z + BLOCK * block)
    _mix_block(work, here, rows, lines, memory, block, lanes)


def _mix(work: Words, rows: Words, lines: Words, memory: Words, n: int, lanes: int) -> None:
    """The second loop of scryptROMix: j = Integerify(X) mod n, X = scryptBlockMix(X xor V[j])."""
    here, there = X, Y
    work[READ : READ + WIDTH] = np.uint32(0xFFFFFFFF)
    for _ in range(n):
        _choose_rows(work, here, rows, lines, memory, n, lanes)
        _mix_block(work, here, rows, lines, memory, BLOCKS - 1, lanes)
        _start_chain(work, here)
        for block in range(BLOCKS):
            if block < BLOCKS - 1:
                _mix_block(work, here, rows, lines, memory, block, lanes)
            salsa(work, there + _place_of(block), work, here + BLOCK * block)
        here, there = there, here
    for word in range(0, BLOCKS * BLOCK, LINE):
        copy_line(work, Z + word, work, here + word)


def _mix_with_gaps(
    work: Words,
    rows: Words,
    todo: Words,
    missing: Words,
    lines: Words,
    memory: Words,
    n: int,
    lanes: int,
    gap: int,
) -> None:
    """The same as `_mix`, where rows of V are missing; each lane in steps of its own."""
    here, there = X, Y
    shift = 1 if gap == 2 else 2
    busy = lanes
    while busy:
        busy = _choose_steps(work, here, rows, todo, missing, lines, memory, n, lanes, gap, shift)
        _mix_or_recall(work, here, rows, lines, memory, BLOCKS - 1, lanes)
        _start_chain(work, here)
        for block in range(BLOCKS):
            if block < BLOCKS - 1:
                _mix_or_recall(work, here, rows, lines, memory, block, lanes)
            salsa(work, there + _place_of(block), work, here + BLOCK * block)
        here, there = there, here


_STEPS_OF_LANES = (_fetch_row, _fetch_rows, _set_masks, _choose_rows, _choose_steps)
_STEPS_OF_BLOCKS = (_place_of, _start_chain, _mix_block, _mix_or_recall)
for _function in (*_STEPS_OF_LANES, *_STEPS_OF_BLOCKS, _fill, _mix, _mix_with_gaps):
    _inlined(_function)


def romix(work: Words, memory: Words, n: int, lanes: int, gap: int) -> None:
    """Z = scryptROMix(X) in every lane; also right, only slow, when numba does not compile it.

    Args:
        work: `WORK_WORDS` words; X in vertical order, of absent lanes anything, the rest zeros.
        memory: V, at least lanes · (n // gap) · `ROW` words, at an address that is a multiple
            of 64.
        n: N, a power of two, at least 2 and at most 2^32.
        lanes: how many are there, 1 to `WIDTH`; the others are computed, but have no V.
        gap: V holds the rows whose number is a multiple of it; 1, 2 or 4, at most n.
    """
    lines: Words = np.zeros(BLOCK, np.uint32)
    rows: Words = np.zeros(WIDTH, np.int64)
    missing: Words = np.zeros(WIDTH, np.int64)
    todo: Words = np.full(WIDTH, n, np.int64)
    _fill(work, lines, memory, n, lanes, gap)
    if gap == 1:
        _mix(work, rows, lines, memory, n, lanes)
    else:
        _mix_with_gaps(work, rows, todo, missing, lines, memory, n, lanes, gap)


def compiled(*, cache: bool) -> Callable[[Words, Words, int, int, int], None]:
    """`romix`, compiled when it is first called; it runs without Python's lock.

    Args:
        cache: keep the machine code on disk, where numba finds a folder for it; raises
            RuntimeError when it finds none.
    """
    options = {"nogil": True, "cache": cache, "boundscheck": False, "error_model": "numpy"}
    function: Callable[[Words, Words, int, int, int], None] = njit(**options)(romix)
    return function
