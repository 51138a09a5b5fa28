"""The passphrase as bytes: text in UTF-8, bytes as they are, a callable called once."""

from __future__ import annotations

import pytest

from qbackup.archive.passphrase import passphrase_bytes
from qbackup.base.errors import UsageError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("correct horse", b"correct horse"),
        ("Grüße", "Grüße".encode()),
        (b"\xff\x00raw", b"\xff\x00raw"),
        ("caf\udce9", b"caf\xe9"),  # as the command line gives what is not UTF-8
        ("", b""),
    ],
)
def test_it_is_taken_as_it_is(given: str | bytes, expected: bytes) -> None:
    assert passphrase_bytes(given) == expected
    assert passphrase_bytes(lambda: given) == expected


def test_a_callable_is_called_once() -> None:
    answers = iter(["first", "second"])
    assert passphrase_bytes(lambda: next(answers)) == b"first"
    assert next(answers) == "second"


def test_an_error_about_it_does_not_show_it() -> None:
    with pytest.raises(UsageError) as caught:
        passphrase_bytes("secret \ud800")
    error: BaseException | None = caught.value
    while error is not None:
        assert "secret" not in repr(error)
        assert not isinstance(error, UnicodeEncodeError)
        error = error.__cause__ or error.__context__
