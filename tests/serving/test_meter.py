"""Limits: read from text, counted by hour and day, kept over restarts and cut-off lines."""

from pathlib import Path

import pytest

from atoll.core.errors import ContractError, InputError
from atoll.serving import meter
from atoll.serving.meter import Limit, MeterBook, SessionMeter

NOON = 1_790_000_000.0  # 2026-09-21T14:13:20Z


def test_limits_from_text() -> None:
    assert Limit.parse("1000/day") == Limit.parse("1000") == Limit(1000, "day")
    assert Limit.parse("20/session") == Limit(20, "session")
    assert str(Limit.parse("5/hour")) == "5 queries an hour"
    assert Limit.parse("none").count == -1
    for bad in ("", "-1", "10/week", "many", "1.5/day"):
        with pytest.raises(InputError, match="is no limit"):
            Limit.parse(bad)


def test_a_day_ends_at_midnight_and_an_hour_at_the_hour(tmp_path: Path) -> None:
    now = [NOON]
    book = MeterBook(tmp_path / "meter.jsonl", Limit(5, "hour"), lambda: now[0])
    one = SessionMeter(book, "bank", "s1", "private", 1)
    one.spend(5)
    with pytest.raises(ContractError, match="limit is spent"):
        one.spend(1)
    assert SessionMeter(book, "shop", "s2", "private", 1).left() == 5
    now[0] += 3600
    assert one.left() == 5
    book.close()


def test_restarts_cut_off_lines_and_long_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "TAIL", 600)
    path = tmp_path / "meter.jsonl"
    for moment, count in ((NOON - 86_400, 9), (NOON, 2), (NOON + 1, 3)):
        book = MeterBook(path, Limit(10, "day"), lambda moment=moment: moment)
        for _ in range(count):
            SessionMeter(book, "bank", "s", "private", 1).spend(1)
        book.close()
        with path.open("ab") as file:
            file.write(b'{"time": 17')
            file.write(b"\n")
    book = MeterBook(path, Limit(10, "day"), lambda: NOON + 2)
    assert book.spent("bank") == 5
    assert SessionMeter(book, "bank", "s", "private", 1).left() == 5
    book.close()


def test_two_services_do_not_count_side_by_side(tmp_path: Path) -> None:
    book = MeterBook(tmp_path / "meter.jsonl", Limit(3), alone=True)
    with pytest.raises(InputError, match="is running already"):
        MeterBook(tmp_path / "meter.jsonl", Limit(3), alone=True)
    book.close()
    MeterBook(tmp_path / "meter.jsonl", Limit(3), alone=True).close()


def test_a_limit_for_each_session(tmp_path: Path) -> None:
    book = MeterBook(tmp_path / "meter.jsonl", Limit(3, "session"))
    one, two = (SessionMeter(book, "bank", name, "private", 1) for name in "ab")
    one.spend(3)
    assert (one.left(), two.left()) == (0, 3)
    book.close()
    free = MeterBook(tmp_path / "x.jsonl", Limit())
    assert SessionMeter(free, "bank", "c", "private", 1).left() == -1
    free.close()
