"""The warning that says which copy gave what."""

from __future__ import annotations

from qbackup.storage.catalog.origins import COPIES_KEY, ChunkOrigins


class TestChunkOrigins:
    def test_says_what_came_from_each_copy(self) -> None:
        told: list[tuple[str, str]] = []
        used: list[int | None] = []
        origins = ChunkOrigins(["a", "b"], lambda key, text: told.append((key, text)), used.append)
        origins.count("one", 0)
        assert not told and not used
        origins.count("one", 1)
        origins.count("two", 1)
        origins.count("two", 1)
        origins.count("three", None)
        origins.count_header(1)
        assert used == [1, 1, None, 1]
        assert {key for key, _ in told} == {COPIES_KEY}
        assert told[-1][1] == (
            "of what could not be verified in a, the header and 2 chunks came from b and 1 chunk"
            " came from parts of several copies, put together; each is verified"
        )
