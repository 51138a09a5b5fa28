"""The ids that are tried where nothing names a backup's id: which, and in which order."""

from __future__ import annotations

from datetime import datetime

import pytest

from qbackup import UsageError
from qbackup.archive.unlock.id_window import ZONES, IdWindow, time_in_name

TIME = datetime(2024, 9, 17, 10, 11, 12)


class TestText:
    @pytest.mark.parametrize(
        ("text", "window"),
        [
            ("", IdWindow()),
            ("5", IdWindow(seconds=5)),
            ("5s,1-9", IdWindow(seconds=5, first_pid=1, last_pid=9)),
            ("1-9, 5", IdWindow(seconds=5, first_pid=1, last_pid=9)),
            ("20240917T101112", IdWindow(time=TIME)),
            ("20240917T101112Z,-0330,from=7", IdWindow(time=TIME, is_utc=True, zone=-210, start=7)),
        ],
    )
    def test_is_read(self, text: str, window: IdWindow) -> None:
        assert IdWindow.parse(text) == window
        assert IdWindow.parse(str(window)) == window

    @pytest.mark.parametrize(
        "text",
        [
            "x",
            "-5",
            "9-1",
            "1-9999999",
            "20241317T101112",
            "20240917T101112z",
            "from=",
            "99999999",
            "60,\x1b[2J",
            "\u0661-\u0662",
        ],
    )
    def test_of_another_form_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError) as caught:
            IdWindow.parse(text)
        assert "\x1b" not in caught.value.reason


class TestOrder:
    def test_goes_from_the_middle_out_and_through_all_numbers(self) -> None:
        window = IdWindow(seconds=1, first_pid=7, last_pid=8, time=TIME)
        assert [window.id_at(number) for number in range(window.size)] == [
            "20240917T101112-7",
            "20240917T101112-8",
            "20240917T101113-7",
            "20240917T101113-8",
            "20240917T101111-7",
            "20240917T101111-8",
        ]

    def test_of_a_utc_time_goes_through_the_zones_with_the_own_one_first(self) -> None:
        window = IdWindow(seconds=0, first_pid=1, last_pid=1, time=TIME, is_utc=True, zone=345)
        ids = [window.id_at(number) for number in range(window.size)]
        assert ids[:4] == [
            "20240917T155612-1",
            "20240917T165612-1",
            "20240917T145612-1",
            "20240917T101112-1",
        ]
        assert len(set(ids)) == len(ids)

    def test_every_zone_is_a_quarter_of_an_hour(self) -> None:
        assert len(set(ZONES)) == len(ZONES)
        assert all(zone % 15 == 0 and -12 * 60 <= zone <= 14 * 60 for zone in ZONES)

    def test_has_no_id_twice_and_all_of_them(self) -> None:
        window = IdWindow(seconds=60, first_pid=1100, last_pid=1299, time=TIME)
        ids = {window.id_at(number) for number in range(window.size)}
        assert len(ids) == window.size == 121 * 200
        assert {"20240917T101012-1100", "20240917T101212-1299"} <= ids

    def test_at_the_ends_of_time_costs_no_traceback(self) -> None:
        for time in (datetime.min, datetime.max):
            window = IdWindow(time=time, is_utc=True)
            assert all(window.id_at(n * window.size // 50) for n in range(50))

    def test_without_a_time_is_refused(self) -> None:
        with pytest.raises(UsageError):
            IdWindow().id_at(0)


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("qubes-2024-09-17T101112", TIME),
        ("copy of qubes-2024-09-17T101112.bak", TIME),
        ("qubes-20240917T101112", TIME),
        ("qubes-2024-09-17T10:11:12", TIME),
        ("2024-13-17T101112 2024-09-17 10-11-12", TIME),
        ("qubes-2024-09-17", None),
        ("backup", None),
        ("123456789012345678901234567890", None),
        ("", None),
    ],
)
def test_the_time_in_a_name(name: str, time: datetime | None) -> None:
    assert time_in_name(name) == time
