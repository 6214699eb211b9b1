"""A file on the layouts' path: opening, validating, writing, the battery and the CLI have it."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import h5dask
from h5dask import layouts
from h5dask.cli import main
from h5dask.errors import LayoutError
from h5dask.testing import LayoutTests, example
from tests.files.same import differences

FLAT = '''
"""Hourly temperatures by station."""

import numpy as np

from h5dask.check import Check, faults
from h5dask.layout import ArraySpec, AttrSpec, Layout
from h5dask.layouts import _rows


def example(rng):
    import xarray as xr

    return xr.Dataset(
        {"temperature": (("station", "hour"), rng.normal(10, 5, (7, 24)).astype(np.float32))},
        coords={"name": ("station", _rows.column([f"st{i}-{rng.integers(99)}" for i in range(7)]))},
        attrs={"unit": "C"},
    )


LAYOUT = Layout(
    name="weather",
    title="hourly temperatures",
    arrays=(
        ArraySpec(
            name="temperature",
            paths=("observed/temperature",),
            dims=("station", "hour"),
            dtypes=("float32", "float64"),
            doc="air temperature",
        ),
        ArraySpec(
            name="name", paths=("names",), dims=("station",), dtypes=("str",), coordinate=True
        ),
    ),
    attrs=(AttrSpec(path="", name="unit", allowed=("C", "F"), doc="unit of temperatures"),),
    marks=("observed/temperature",),
    along="station",
    checks=(
        Check(
            variables=("temperature",),
            find=faults.find_nan,
            found="{count} NaN in {name}",
            expected="a temperature for every hour",
        ),
    ),
    example=example,
)
'''

GROUPED = '''
"""Traces of runs of unequal length, one group a run and two kinds of sensors."""

import numpy as np

from h5dask.groups import Groups
from h5dask.layout import ArraySpec, AttrSpec, Layout
from h5dask.layouts import _rows


def labels(groups, found):
    counts = groups.counts["tick"]
    runs = np.array([int(key) for key in groups.key_column("run")], np.int32)
    return {"run": np.repeat(runs, counts), "at": _rows.within(counts).astype(np.int32)}


def groups(labels, found):
    runs = _rows.numbers(labels, "run", _rows.length(labels, ("run",), found))
    known = list(dict.fromkeys(runs.tolist()))
    rows = _rows.split(_rows.codes(runs.tolist(), {n: i for i, n in enumerate(known)}, len(runs)),
                       len(known))
    counts = np.array([len(taken) for taken in rows], np.int64)
    shapes = tuple((int(n),) for n in counts)
    return Groups(
        names=("run",),
        keys=tuple((str(n),) for n in known),
        counts={"tick": counts},
        shapes={"trace": shapes, "note": shapes},
        rows={"tick": tuple(rows)},
    )


def join(parts):
    start, joined = 0, []
    for part in parts:
        known, code = np.unique(part["run"], return_inverse=True)
        joined.append({**part, "run": (code + start).astype(np.int32)})
        start += len(known)
    return joined


def index(labels, sizes):
    from h5dask.indexes import Labels

    return Labels("tick", dict(labels))


def derive(groups, sizes, lanes):
    counts = groups.counts.get("tick", ())
    return {
        (f"run_{key}", "ticks", ""): int(n) for (key,), n in zip(groups.keys, counts, strict=True)
    }


def example(rng):
    import xarray as xr

    rows = {"run": np.repeat(np.array([2, 10], np.int32), [4, 3]),
            "at": np.array([0, 1, 2, 3, 0, 1, 2], np.int32)}
    return xr.Dataset(
        {
            "trace": (("tick", "sensor", "channel"), rng.normal(size=(7, 2, 3))),
            "note": ("tick", _rows.column([f"note {i}" for i in rng.integers(0, 99, 7)])),
        },
        coords=xr.Coordinates.from_xindex(index(rows, {})),
        attrs={"device": "scope"},
    ).assign_coords(sensor=["left", "right"])


LAYOUT = Layout(
    name="runs",
    title="traces of runs",
    arrays=(
        ArraySpec(
            name="trace",
            paths=("run_{run:d}/{sensor:left|right}",),
            dims=("tick", "sensor", "channel"),
            dtypes=("float64",),
            ragged="tick",
            resizable=True,
        ),
        ArraySpec(
            name="note", paths=("run_{run:d}/notes",), dims=("tick",), dtypes=("str",),
            ragged="tick", resizable=True, required=False,
        ),
    ),
    attrs=(
        AttrSpec(path="", name="device"),
        AttrSpec(path="run_{run:d}", name="ticks", kind="int", doc="length of the run"),
    ),
    marks=("run_{run:d}",),
    along="tick",
    index=index,
    labels=labels,
    groups=groups,
    join=join,
    derive=derive,
    example=example,
)
'''


@pytest.fixture(autouse=True)
def fifth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Put the two layouts, a file each, into a folder that is searched for layouts."""
    folder = tmp_path_factory.mktemp("more")
    (folder / "weather.py").write_text(FLAT)
    (folder / "runs.py").write_text(GROUPED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "__path__", [*layouts.__path__, str(folder)])
        yield
    for name in ("weather", "runs"):
        sys.modules.pop(f"h5dask.layouts.{name}", None)


class TestWeather(LayoutTests):
    """A flat layout."""

    layout = "weather"


class TestRuns(LayoutTests):
    """A layout of groups that lie end to end, with a stacked dim."""

    layout = "runs"


def test_the_names() -> None:
    assert layouts.names() == ("activations", "ann", "episodes", "proteins", "runs", "weather")


def test_a_file_made_by_others(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f.attrs["device"] = "scope"
        for run, n in (("run_10", 3), ("run_2", 5)):
            group = f.create_group(run)
            group.attrs["ticks"] = n
            for sensor in ("left", "right"):
                values = np.arange(n * 2.0).reshape(n, 2) + (100 if sensor == "right" else 0)
                group.create_dataset(sensor, data=values, chunks=(2, 2), compression="gzip")
    path = tmp_path / "a.h5"
    assert h5dask.identify(path) == "runs"
    assert h5dask.validate(path, values=True) == ()
    ds = h5dask.open_dataset(path)
    assert ds.run.values.tolist() == [2] * 5 + [10] * 3
    assert ds.sel(run=10, sensor="right").trace.values.tolist() == [
        [100, 101],
        [102, 103],
        [104, 105],
    ]
    assert sorted(h5dask.open_datatree(path).children) == ["run_10", "run_2"]
    h5dask.write_dataset(ds, tmp_path / "b.h5")
    assert differences(path, tmp_path / "b.h5") == []
    h5dask.write_dataset(ds.sel(run=2).isel(tick=slice(2)), tmp_path / "c.h5")
    with h5py.File(tmp_path / "c.h5") as f:
        assert list(f) == ["run_2"]
        assert f["run_2"].attrs["ticks"] == 2
        assert f["run_2/left"].compression == "gzip"


def test_its_rules_are_kept(tmp_path: Path) -> None:
    ds = example("weather")
    with pytest.raises(LayoutError, match="attribute 'unit' is 'K', expected 'C' or 'F'"):
        h5dask.write_dataset(ds.assign_attrs(unit="K"), tmp_path / "a.h5")
    with pytest.raises(LayoutError, match=r"lacks attributes that weather needs: unit \(one of"):
        h5dask.write_dataset(ds.drop_attrs(), tmp_path / "a.h5")
    ds.temperature[3, 5] = np.nan
    h5dask.write_dataset(ds, tmp_path / "a.h5")
    [problem] = h5dask.validate(tmp_path / "a.h5", values=True)
    assert "1 NaN in temperature" in str(problem)
    with h5py.File(tmp_path / "a.h5", "a") as f:
        f.attrs["unit"] = "K"
        del f["names"]
    found = [str(problem) for problem in h5dask.validate(tmp_path / "a.h5")]
    assert any("'unit' is 'K'" in line for line in found)
    assert any("no dataset 'names'" in line for line in found)


def test_the_command_line_knows_it(tmp_path: Path) -> None:
    path = str(tmp_path / "a.h5")
    h5dask.write_dataset(example("runs"), path)
    run = CliRunner().invoke
    assert "proteins|runs|weather" in run(main, ["validate", "--help"]).output
    assert run(main, ["validate", "--layout", "runs", path]).exit_code == 0
    assert run(main, ["validate", "--layout", "weather", path]).exit_code == 1
    told = json.loads(run(main, ["info", path, "--json"]).stdout)
    assert "runs" in json.dumps(told)
    assert "runs" in run(main, ["info", path]).stdout
