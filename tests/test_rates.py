"""Rates of this machine: measured, remembered between runs, and those of an input's store."""

import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest

import h5dask
from h5dask.plan import Figures, Known, Rates, calibrate, known_rates, plan_of, remembered
from h5dask.plan import rates as measuring
from h5dask.testing import example, example_file
from tests.test_plan import printed

NAMES = tuple(one.name for one in fields(Rates))
RATES = Rates(**{name: 1e9 + i for i, name in enumerate(NAMES)})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache folder."""
    made = tmp_path / "cache"
    monkeypatch.setenv("H5DASK_CACHE", str(made))
    return made


@pytest.fixture
def measures(monkeypatch: pytest.MonkeyPatch) -> list[Rates]:
    """Return what was measured instead of this machine, each time a little faster."""
    found: list[Rates] = []

    def measure() -> Rates:
        found.append(replace(RATES, read=1e9 * (len(found) + 1)))
        return found[-1]

    monkeypatch.setattr(remembered, "calibrate", measure)
    return found


def kept_in(folder: Path) -> Path:
    [path] = folder.glob("rates-*.json")
    return path


def change(path: Path, **said: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | said))


def test_calibration(tmp_path: Path) -> None:
    rates = calibrate(tmp_path)
    assert all(getattr(rates, name) > 0 for name in NAMES)
    assert list(tmp_path.iterdir()) == []
    assert calibrate(tmp_path / "nowhere").read > 0


def test_without_sockets_the_network_is_as_quick_as_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(values: object) -> float:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(measuring, "_over_tcp", refuse)
    rates = calibrate()
    assert rates.network == rates.scan


def test_they_are_measured_once(folder: Path, measures: list[Rates]) -> None:
    first = known_rates()
    assert known_rates() == first
    assert measures == [first.rates]
    assert first.at is not None
    told = json.loads(kept_in(folder).read_text())
    assert told["rates"] == {name: getattr(first.rates, name) for name in NAMES}
    assert datetime.fromisoformat(told["measured"]) == first.at
    assert set(told["machine"]) == {"host", "processor", "cores", "versions"}


def test_they_are_measured_again_when_asked(folder: Path, measures: list[Rates]) -> None:
    known_rates()
    assert known_rates(anew=True).rates == measures[1]
    assert known_rates().rates == measures[1]


@pytest.mark.parametrize("days", [-1, 31])
def test_old_ones_and_those_of_the_future_do_not_count(
    days: int, folder: Path, measures: list[Rates]
) -> None:
    known_rates()
    at = datetime.now(UTC) - timedelta(days=days)
    change(kept_in(folder), measured=at.isoformat())
    assert known_rates().rates == measures[1]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"measured": "yesterday", "rates": {}}',
        '{"measured": "2026-01-01", "rates": {}}',
        "\x00" * 100,
    ],
)
def test_what_makes_no_sense_is_measured(text: str, folder: Path, measures: list[Rates]) -> None:
    known_rates()
    kept_in(folder).write_text(text)
    assert known_rates().rates == measures[1]
    assert known_rates().rates == measures[1]


@pytest.mark.parametrize("rate", [0, -1.0, float("nan"), float("inf"), "fast", None])
def test_rates_that_cannot_be_are_measured(rate: Any, folder: Path, measures: list[Rates]) -> None:
    known_rates()
    path = kept_in(folder)
    change(path, rates=json.loads(path.read_text())["rates"] | {"kernel": rate})
    assert known_rates().rates == measures[1]


@pytest.mark.parametrize("differs", ["host", "processor", "cores", "versions"])
def test_each_machine_has_its_own(
    differs: str, folder: Path, measures: list[Rates], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = remembered.machine()
    known_rates()
    monkeypatch.setattr(remembered, "machine", lambda: here | {differs: "another"})
    assert known_rates().rates == measures[1]
    assert len(list(folder.iterdir())) == 2


def test_where_nothing_can_be_kept_they_are_measured(
    tmp_path: Path, measures: list[Rates], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = tmp_path / "a file"
    taken.write_text("")
    for folder in (taken, taken / "below"):
        monkeypatch.setattr(remembered, "folder", lambda folder=folder: folder)
        monkeypatch.setattr(remembered, "folders", lambda folder=folder: (folder,))
        assert known_rates().rates == measures[-1]
    assert len(measures) == 2


def test_a_full_disk_leaves_nothing(
    folder: Path, measures: list[Rates], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    assert known_rates().rates == measures[0]
    assert list(folder.iterdir()) == []


def test_many_at_once_leave_one_whole_file(folder: Path, measures: list[Rates]) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: known_rates(anew=True), range(40)))
    assert known_rates() in [replace(one, at=known_rates().at) for one in found]
    assert [path.suffix for path in folder.iterdir()] == [".json"]


@pytest.fixture
def in_store() -> Iterator[str]:
    url = "memory://rates/a.h5"
    h5dask.write_dataset(example("ann"), url)
    yield url
    fsspec.filesystem("memory").rm("/rates", recursive=True)


def test_an_input_in_a_store_is_read_to_learn_its_rate(
    in_store: str, folder: Path, measures: list[Rates]
) -> None:
    ds = h5dask.open_dataset(in_store)
    plan = plan_of(ds, [])
    assert plan.sampled == in_store
    assert plan.rates == replace(measures[0], read=plan.rates.read)
    assert plan.rates.read not in {0, measures[0].read}
    assert plan.as_json()["read_sampled_from"] == in_store
    assert f"Reading was measured on {in_store}." in printed(plan)
    told = plan_of(ds, [], figures=Figures(rates={"read": 5.0}))
    assert (told.sampled, told.rates.read) == ("", 5.0)
    assert plan_of(ds, [], rates=RATES).sampled == ""


def test_when_they_were_measured_is_told(folder: Path, measures: list[Rates]) -> None:
    plan = plan_of(h5dask.open_dataset(example_file("ann")), [])
    at = known_rates().at
    assert at is not None
    assert plan.as_json()["rates_measured"] == at.isoformat()
    assert re.search(f"This machine was measured on {at:%Y-%m-%d}; rates=new", printed(plan))
    assert plan_of(example("ann"), [], rates=RATES).as_json()["rates_measured"] is None
    assert "was measured" not in printed(plan_of(example("ann"), [], rates=RATES))


def test_given_rates_count_for_more(folder: Path, measures: list[Rates]) -> None:
    figures = Figures(rates={"network": 7.0}, anew=True)
    plan = plan_of(example("ann"), [], figures=figures)
    assert plan.rates == replace(measures[0], network=7.0)
    assert known_rates() == Known(rates=measures[0], at=plan.measured)
