"""The text of scryptROMix in LLVM's language, for a number of lanes side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from llvmlite import ir

R = 8
BLOCKS = 2 * R  # in a row of V, of 64 bytes each
LINE = 16  # words in a block of one lane
ROW = LINE * BLOCKS  # words of one lane in X, or in a row of V
WIDEST = 4  # lanes in a vector: 512 bits, or two or four registers where those are narrower
# (row, column) → word: the diagonals of Salsa20's four by four (RFC 7914, section 3)
ORDER = (0, 5, 10, 15, 4, 9, 14, 3, 8, 13, 2, 7, 12, 1, 6, 11)
_ONE, _TWO, _THREE = (1, 2, 3, 0), (2, 3, 0, 1), (3, 0, 1, 2)  # columns, moved to the left
_DOUBLE_ROUNDS = 4
CACHE_LINE = 64
_WORD, _INDEX = ir.IntType(32), ir.IntType(64)
_PIECE = ir.VectorType(_WORD, 4)  # a row of one lane
Value = Any  # a value of llvmlite, which has no type annotations
Vectors = list[Value]  # a row: a vector for each part of the lanes
Block = list[Vectors]  # its four rows


def parts_of(lanes: int) -> tuple[int, ...]:
    """Divides lanes among vectors: each holds as many as possible, a power of two."""
    parts = [WIDEST] * (lanes // WIDEST)
    parts += [power for power in (2, 1) if lanes % WIDEST & power]
    return tuple(parts)


@dataclass
class _Loop:
    """A loop that is being written.

    Args:
        index: counts from 0.
        values: at the beginning of each turn; after the loop, those of its end.
        results: values for the next turn; set by the body.
    """

    index: Value
    values: list[Value]
    results: list[Value] = field(default_factory=list)


class FunctionWriter:
    """Writer of the function for a number of lanes: ``void romix(state, v, n)``."""

    def __init__(self, lanes: int) -> None:
        self.module = ir.Module("romix")
        word = _WORD.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [word, word, _INDEX])
        self._function = ir.Function(self.module, kind, "romix")
        self._builder = ir.IRBuilder(self._function.append_basic_block())
        self._state, self._v, self._n = self._function.args
        for pointer in (self._state, self._v):
            pointer.add_attribute("noalias")
        self._parts = parts_of(lanes)
        self._firsts = [sum(self._parts[:at]) for at in range(len(self._parts))]
        self._block = LINE * lanes  # words of a block of all lanes
        lane_words = self._builder.mul(self._n, _INDEX(ROW))
        self._lanes = [self._builder.mul(lane_words, _INDEX(lane)) for lane in range(lanes)]
        self._past_caches = self.module.add_metadata([_WORD(1)])
        self._declare_prefetch()

    def write(self) -> str:
        """Writes the whole function, as LLVM's text."""
        x, y = _INDEX(0), _INDEX(self._block * BLOCKS)
        # n is even, so the result of each loop is in X, as at its beginning
        with self._loop(self._n, [x, y]) as turn:
            here, there = turn.values
            self._fill(turn.index, here, there)
            turn.results = [there, here]
        with self._loop(self._n, [x, y]) as turn:
            here, there = turn.values
            self._mix(here, there)
            turn.results = [there, here]
        self._builder.ret_void()
        return str(self.module)

    # scryptROMix

    def _fill(self, number: Value, here: Value, there: Value) -> None:
        """Writes step 2: V[i] = X, X = scryptBlockMix(X)."""
        row = self._builder.mul(number, _INDEX(ROW))
        rows = [self._builder.add(row, lane) for lane in self._lanes]

        def keep(block: Value) -> Block:
            loaded = self._load(here, block)
            self._save_rows(rows, block, loaded)
            return loaded

        self._block_mix(self._load(here, _INDEX(BLOCKS - 1)), keep, there)

    def _mix(self, here: Value, there: Value) -> None:
        """Writes step 3: j = Integerify(X) mod n, X = scryptBlockMix(X xor V[j])."""
        rows = self._choose_rows(here)

        def mixed(block: Value) -> Block:
            return self._xored(self._load(here, block), self._read_rows(rows, block))

        self._block_mix(mixed(_INDEX(BLOCKS - 1)), mixed, there)

    def _choose_rows(self, here: Value) -> list[Value]:
        """Computes the row of V that each lane reads, and prefetches all of the row.

        The blocks are prefetched in the order in which scryptBlockMix needs them, so the last one
        first.
        """
        build = self._builder
        last_row = build.sub(self._n, _INDEX(1))
        rows = []
        for part, first in enumerate(self._firsts):
            word = self._place(here, _INDEX(BLOCKS - 1), 0, part)
            for lane in range(first, first + self._parts[part]):
                at = build.gep(self._state, [build.add(word, _INDEX(4 * (lane - first)))])
                j = build.and_(build.zext(build.load(at), _INDEX), last_row)
                rows.append(build.add(build.mul(j, _INDEX(ROW)), self._lanes[lane]))
        for block in (BLOCKS - 1, *range(BLOCKS - 1)):
            for row in rows:
                self._prefetch(build.add(row, _INDEX(LINE * block)))
        return rows

    def _block_mix(self, last: Block, block_at: Callable[[Value], Block], there: Value) -> None:
        """Writes scryptBlockMix (section 4): the even blocks of the result first, then the odd.

        Args:
            last: the block that the chain begins with.
            block_at: loads a block.
            there: place of the result.
        """
        build = self._builder
        with self._loop(_INDEX(R), [vector for row in last for vector in row]) as turn:
            width = len(self._parts)
            chain = [turn.values[at : at + width] for at in range(0, 4 * width, width)]
            even = build.mul(turn.index, _INDEX(2))
            for odd in (0, 1):
                block = block_at(build.add(even, _INDEX(odd)))
                chain = self._salsa(self._xored(chain, block))
                self._store(there, build.add(turn.index, _INDEX(R * odd)), chain)
            turn.results = [vector for row in chain for vector in row]

    # Salsa20/8

    def _salsa(self, before: Block) -> Block:
        """Writes Salsa20/8 (section 3), on rows in the order of `ORDER`."""
        a, b, c, d = before
        for _ in range(_DOUBLE_ROUNDS):
            a, b, c, d = self._quarter_round(a, b, c, d)
            # the columns' diagonals become those of the rows, and back
            b, c, d = self._moved(d, _ONE), self._moved(c, _TWO), self._moved(b, _THREE)
            a, b, c, d = self._quarter_round(a, b, c, d)
            b, c, d = self._moved(d, _ONE), self._moved(c, _TWO), self._moved(b, _THREE)
        return [
            list(map(self._builder.add, row, old))
            for row, old in zip((a, b, c, d), before, strict=True)
        ]

    def _quarter_round(self, a: Vectors, b: Vectors, c: Vectors, d: Vectors) -> Block:
        b = self._step(b, a, d, 7)
        c = self._step(c, b, a, 9)
        d = self._step(d, c, b, 13)
        a = self._step(a, d, c, 18)
        return [a, b, c, d]

    def _step(self, target: Vectors, one: Vectors, other: Vectors, bits: int) -> Vectors:
        """Writes ``target ^= (one + other) <<< bits``.

        Each instruction is written for all vectors before the next one, so that they overlap.
        """
        build = self._builder
        sums = list(map(build.add, one, other))
        left = [build.shl(total, _all(total.type, bits)) for total in sums]
        right = [build.lshr(total, _all(total.type, 32 - bits)) for total in sums]
        return list(map(build.xor, target, map(build.or_, left, right)))

    def _moved(self, row: Vectors, columns: tuple[int, ...]) -> Vectors:
        """Puts the words of each lane into another order."""
        return [
            self._picked(vector, vector, [at - at % 4 + columns[at % 4] for at in _places(vector)])
            for vector in row
        ]

    def _xored(self, one: Block, other: Block) -> Block:
        return [list(map(self._builder.xor, *rows)) for rows in zip(one, other, strict=True)]

    def _picked(self, one: Value, other: Value, places: list[int]) -> Value:
        """Makes a vector from words of two vectors."""
        kind = ir.VectorType(_WORD, len(places))
        return self._builder.shuffle_vector(one, other, ir.Constant(kind, places))

    # The state

    def _place(self, base: Value, block: Value, row: int, part: int) -> Value:
        """Gives the index of a vector's first word."""
        start = self._builder.add(base, self._builder.mul(block, _INDEX(self._block)))
        inside = LINE * self._firsts[part] + 4 * self._parts[part] * row
        return self._builder.add(start, _INDEX(inside))

    def _vector_at(self, base: Value, block: Value, row: int, part: int) -> Value:
        kind = ir.VectorType(_WORD, 4 * self._parts[part])
        return self._pointer(self._state, self._place(base, block, row, part), kind)

    def _load(self, base: Value, block: Value) -> Block:
        return [
            [
                self._builder.load(self._vector_at(base, block, row, part), align=16)
                for part in range(len(self._parts))
            ]
            for row in range(4)
        ]

    def _store(self, base: Value, block: Value, rows: Block) -> None:
        for row, vectors in enumerate(rows):
            for part, vector in enumerate(vectors):
                self._builder.store(vector, self._vector_at(base, block, row, part), align=16)

    # V

    def _piece_at(self, row_of_v: Value, block: Value, row: int) -> Value:
        line = self._builder.add(row_of_v, self._builder.mul(block, _INDEX(LINE)))
        return self._pointer(self._v, self._builder.add(line, _INDEX(4 * row)), _PIECE)

    def _save_rows(self, rows_of_v: list[Value], block: Value, rows: Block) -> None:
        """Writes a block of every lane to memory, bypassing the caches.

        V is far larger than the caches. An ordinary store would first read the line that it
        overwrites.
        """
        for row, vectors in enumerate(rows):
            pieces = [piece for vector in vectors for piece in self._divided(vector)]
            for row_of_v, piece in zip(rows_of_v, pieces, strict=True):
                store = self._builder.store(piece, self._piece_at(row_of_v, block, row), align=16)
                store.set_metadata("nontemporal", self._past_caches)

    def _read_rows(self, rows_of_v: list[Value], block: Value) -> Block:
        """Reads a block of every lane, each from its own row."""
        rows = []
        for row in range(4):
            pieces = [
                self._builder.load(self._piece_at(row_of_v, block, row), align=16)
                for row_of_v in rows_of_v
            ]
            rows.append(
                [
                    self._joined(pieces[first : first + count])
                    for first, count in zip(self._firsts, self._parts, strict=True)
                ]
            )
        return rows

    def _divided(self, vector: Value) -> list[Value]:
        """Divides a vector into the rows of its lanes."""
        starts = range(0, vector.type.count, 4)
        return [self._picked(vector, vector, [*range(at, at + 4)]) for at in starts]

    def _joined(self, pieces: list[Value]) -> Value:
        """Joins one, two or four vectors into one."""
        while len(pieces) > 1:
            places = [*range(2 * pieces[0].type.count)]
            pairs = zip(pieces[::2], pieces[1::2], strict=True)
            pieces = [self._picked(one, other, places) for one, other in pairs]
        return pieces[0]

    # LLVM

    @contextmanager
    def _loop(self, count: Value, values: list[Value]) -> Iterator[_Loop]:
        """Repeats the code that is written in this context; `count` is at least 1."""
        build = self._builder
        before, body = build.block, self._function.append_basic_block()
        after = self._function.append_basic_block()
        build.branch(body)
        build.position_at_end(body)
        carried = [_INDEX(0), *values]
        phis = [build.phi(value.type) for value in carried]
        turn = _Loop(phis[0], list(phis[1:]))
        yield turn
        index = build.add(turn.index, _INDEX(1))
        for phi, first, later in zip(phis, carried, [index, *turn.results], strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(later, build.block)
        build.cbranch(build.icmp_unsigned("<", index, count), body, after)
        build.position_at_end(after)
        turn.values = turn.results

    def _pointer(self, base: Value, word: Value, kind: Any) -> Value:
        return self._builder.bitcast(self._builder.gep(base, [word]), kind.as_pointer())

    def _declare_prefetch(self) -> None:
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _WORD, _WORD, _WORD])
        self._fetch = self.module.declare_intrinsic("llvm.prefetch", [byte], fnty=kind)

    def _prefetch(self, word: Value) -> None:
        """Prefetches into the second-level cache.

        In the first-level cache a row of every lane would displace X and Y.
        """
        to_read, second_level, data = _WORD(0), _WORD(2), _WORD(1)
        pointer = self._pointer(self._v, word, ir.IntType(8))
        self._builder.call(self._fetch, [pointer, to_read, second_level, data])


def _all(kind: Any, number: int) -> Value:
    return ir.Constant(kind, [number] * kind.count)


def _places(vector: Value) -> range:
    return range(vector.type.count)
