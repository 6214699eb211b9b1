"""Files with one variable scaled: the same form, all else byte for byte, nothing lost unsaid."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import h5py
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import h5dask
from h5dask.errors import Conflict, H5daskError, NotFound, Refused
from h5dask.normalizing import Scaling, write_scaled
from h5dask.ops.scales import Loss
from h5dask.progress import watch
from h5dask.results import open_any
from h5dask.testing import assert_same_form, example, example_file
from tests.commands import call

HOWS = ("l2", "zscore", "center", "minmax", "whiten")
VECTORS = {
    "activations": "activations",
    "ann": "train",
    "episodes": "embeddings",
    "proteins": "logits",
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Start no threads for arrays of a few values."""
    with dask.config.set(scheduler="sync"):
        yield


def written(
    path: str,
    output: Path | str,
    *,
    overwrite: bool = False,
    save: str | None = None,
    **asked: Any,
) -> dict[str, Any]:
    """Write a file's Dataset scaled, and return what is said of it."""
    ds = open_any(path)
    with watch(quiet=True) as progress, warnings.catch_warnings():
        warnings.simplefilter("ignore", Loss)
        told = write_scaled(
            ds, Scaling.of(ds, **asked), str(output), save=save, overwrite=overwrite,
            progress=progress,
        )  # fmt: skip
    made: dict[str, Any] = json.loads(json.dumps(told, allow_nan=False))
    return made


def datasets(path: Any) -> dict[str, NDArray[Any]]:
    """Return every dataset of a file by its path, read without h5dask."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, one: found.update(_values(name, one)))
    return found


def _values(name: str, one: Any) -> dict[str, NDArray[Any]]:
    return {name: one[()]} if isinstance(one, h5py.Dataset) else {}


@pytest.mark.parametrize("layout", VECTORS)
def test_the_exact_layout_with_that_variable_alone_changed(layout: str, tmp_path: Path) -> None:
    path, output, name = example_file(layout), tmp_path / "scaled.h5", VECTORS[layout]
    told = written(path, output, variable=name)
    assert told == {
        "variable": name, "how": "l2", "dims": [list(map(str, example(layout)[name].dims))[-1]],
        "fitted": None, "output": str(output), "nonfinite_before": 0, "nonfinite_after": 0,
    }  # fmt: skip
    assert h5dask.identify(output) == layout
    assert h5dask.validate(output) == ()
    assert_same_form(path, str(output))
    before, after = datasets(path), datasets(output)
    scaled = {at for at in before if name in at.split("/")[-1] and before[at].dtype.kind == "f"}
    assert scaled
    for at, values in before.items():
        if at in scaled and values.size:
            wide = values.astype("f8")
            units = wide / np.linalg.norm(wide, axis=-1, keepdims=True)
            np.testing.assert_allclose(
                after[at], units, rtol=2 * np.finfo(values.dtype).eps, atol=1e-7
            )
        else:
            np.testing.assert_array_equal(after[at], values)
    ds, other = (h5dask.open_dataset(one).drop_vars(name) for one in (path, output))
    xr.testing.assert_identical(ds.compute(), other.compute())


@pytest.mark.parametrize("how", HOWS)
def test_any_way(how: str, tmp_path: Path) -> None:
    path, output = example_file("episodes"), tmp_path / "scaled.h5"
    told = written(path, output, how=how)
    assert told["dims"] == (["feature"] if how == "l2" else ["episode"])
    assert h5dask.validate(output, values=True) == ()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Loss)
        expected = h5dask.normalize(
            h5dask.open_dataset(path).embeddings, how, dim="feature" if how == "l2" else "episode"
        )
    np.testing.assert_array_equal(h5dask.open_dataset(output).embeddings, expected)


def test_dims_as_told(tmp_path: Path) -> None:
    told = written(
        example_file("activations"), tmp_path / "a.h5", variable="activations", how="center",
        dims=["record", "hidden"],
    )  # fmt: skip
    assert told["dims"] == ["record", "hidden"]
    means = (
        h5dask.open_dataset(tmp_path / "a.h5").activations.astype("f8").mean(["record", "hidden"])
    )
    np.testing.assert_allclose(means, 0, atol=1e-3)


@pytest.mark.parametrize("how", HOWS)
def test_saved_statistics_serve_another_file(how: str, tmp_path: Path) -> None:
    path, saved = example_file("episodes"), str(tmp_path / "fitted.nc")
    written(path, tmp_path / "a.h5", how=how, save=saved)
    told = written(path, tmp_path / "b.h5", how=how, fitted=saved)
    assert told["fitted"] == saved
    assert_same_form(str(tmp_path / "a.h5"), str(tmp_path / "b.h5"))
    one, same = (h5dask.open_dataset(tmp_path / name).compute() for name in ("a.h5", "b.h5"))
    xr.testing.assert_identical(one, same)
    other = example_file("episodes", seed=1)
    written(other, tmp_path / "c.h5", how=how, fitted=saved)
    expected = h5dask.normalize(h5dask.open_dataset(other).embeddings, how, fitted=open_any(saved))
    np.testing.assert_array_equal(h5dask.open_dataset(tmp_path / "c.h5").embeddings, expected)


@pytest.mark.parametrize("ending", ["nc", "zarr"])
def test_the_variable_alone(ending: str, tmp_path: Path) -> None:
    path, output = example_file("activations"), tmp_path / f"a.{ending}"
    written(path, output, variable="activations")
    found = open_any(str(output)).load()
    assert set(found) == {"activations"}
    assert set(found.coords) == {"scenario", "branch", "sample", "layer"}
    expected = h5dask.normalize(h5dask.open_dataset(path).activations, dim="hidden")
    xr.testing.assert_equal(found.activations, expected.compute())
    again = written(str(output), tmp_path / f"b.{ending}", variable="activations", how="center")
    assert again["dims"] == ["record"]


def test_a_file_may_take_the_place_of_its_input(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    h5dask.write_dataset(example("episodes"), path)
    told = written(str(path), path, overwrite=True)
    assert told["nonfinite_after"] == 0
    lengths = np.linalg.norm(h5dask.open_dataset(path).embeddings, axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-6)


def spoiled(tmp_path: Path, values: Callable[[Any], Any]) -> str:
    """Return the path of a file of activations, with some of them changed."""
    ds = example("activations")
    path = tmp_path / "spoiled.h5"
    h5dask.write_dataset(ds.assign(activations=values(ds.activations)), path)
    return str(path)


def test_values_that_become_infinite_are_said_once(tmp_path: Path) -> None:
    path = spoiled(tmp_path, lambda x: (x * 0 + 6e4).where(x > 0, -6e4).astype(x.dtype))
    fitted = h5dask.fit(h5dask.open_dataset(path).activations, "center", dim="record")
    saved = str(tmp_path / "low.nc")
    (fitted * 0 - 6e4).assign_attrs(fitted.attrs).to_netcdf(saved, engine="h5netcdf")
    asked = {"variable": "activations", "how": "center", "fitted": saved}
    with pytest.warns(UserWarning, match="more values aren't finite than before; float16") as said:
        told = written(path, tmp_path / "a.h5", **asked)
    values = h5dask.open_dataset(path).activations.values
    assert told["nonfinite_before"] == 0
    assert told["nonfinite_after"] == (values > 0).sum()
    assert len(said) == 1
    assert (
        int(re.findall(r": ([\d,]+) more", str(said[0].message))[0].replace(",", ""))
        == (values > 0).sum()
    )


def test_values_that_become_nan_are_said(tmp_path: Path) -> None:
    path = spoiled(tmp_path, lambda x: x.where(np.arange(x.sizes["hidden"]) != 5, np.nan))
    n = h5dask.open_dataset(path).activations.size
    with pytest.warns(UserWarning, match=f"{n - n // 16:,} more values aren't finite than before"):
        told = written(path, tmp_path / "a.h5", variable="activations")
    assert (told["nonfinite_before"], told["nonfinite_after"]) == (n // 16, n)


def test_real_files(small: Path, tmp_path: Path) -> None:
    for path in sorted((small / "activations").glob("*.h5")):
        output = tmp_path / path.name
        written(str(path), output, variable="activations")
        assert_same_form(str(path), str(output))
        assert h5dask.validate(output) == h5dask.validate(path)
        ds, made = h5dask.open_dataset(path), h5dask.open_dataset(output)
        np.testing.assert_array_equal(ds.logits, made.logits)
        lengths = np.linalg.norm(made.activations.values.astype("f8"), axis=-1)
        np.testing.assert_allclose(lengths, 1, rtol=2e-3)


# What is refused


def test_what_is_there_is_kept_and_nothing_is_read_for_it(tmp_path: Path) -> None:
    path = example_file("episodes")
    for there, name in ((tmp_path / "a.h5", "a"), (tmp_path / "fitted.nc", "b")):
        there.write_bytes(b"there")
        ds = open_any(path)
        scaling = Scaling.of(ds, how="zscore")
        with (
            watch(quiet=True) as progress,
            pytest.raises(Conflict, match=f"{there.name}: exists already; choose another name"),
        ):
            write_scaled(
                ds, scaling, str(tmp_path / f"{name}.h5"), save=str(tmp_path / "fitted.nc"),
                progress=progress,
            )  # fmt: skip
        assert not progress.records
        assert [one.name for one in tmp_path.iterdir()] == [there.name]
        there.unlink()


def opened(layout: str) -> xr.Dataset:
    return h5dask.open_dataset(example_file(layout))


REFUSED: dict[str, tuple[Callable[[], Any], type[H5daskError], str]] = {
    "several variables of vectors": (
        lambda: Scaling.of(opened("activations")),
        Refused,
        r"variable: found 2 of vectors \(activations, logits\); name the one that is meant",
    ),
    "none": (
        lambda: Scaling.of(opened("activations")[["prompts"]]),
        Refused,
        r"variable: found 0 of vectors \(none\)",
    ),
    "an unknown one": (
        lambda: Scaling.of(opened("episodes"), variable="train"),
        NotFound,
        "variable: found 'train'; expected of embeddings",
    ),
    "an unknown way": (
        lambda: Scaling.of(opened("episodes"), how="L2"),
        Refused,
        "how: found 'L2'; expected one of 'l2', 'zscore'",
    ),
}


@pytest.mark.parametrize(("ask", "error", "text"), REFUSED.values(), ids=REFUSED)
def test_refusals(ask: Callable[[], Any], error: type[H5daskError], text: str) -> None:
    with pytest.raises(error, match=text):
        ask()


REFUSED_FILES: dict[str, tuple[dict[str, Any], type[H5daskError], str]] = {
    "text": ({"variable": "prompts"}, Refused, "prompts: found text; expected numbers"),
    "an unknown dim": (
        {"variable": "logits", "dims": ["hidden"]},
        Refused,
        "logits: found no dim hidden; expected of record, vocab",
    ),
    "statistics that aren't there": (
        {"variable": "logits", "how": "zscore", "fitted": "none.nc"},
        NotFound,
        r"none\.nc: not found",
    ),
    "statistics under a name of no result": (
        {"variable": "activations", "how": "zscore", "save": "fitted.csv"},
        Refused,
        r"fitted\.csv: a result is written as \.nc, \.h5, \.zarr",
    ),
    "whitening of several dims": (
        {"variable": "activations", "how": "whiten", "dims": ["record"]},
        Refused,
        "activations: found .* beside .*; expected one dim, of columns",
    ),
}


@pytest.mark.parametrize(("asked", "error", "text"), REFUSED_FILES.values(), ids=REFUSED_FILES)
def test_refusals_leave_nothing(
    asked: dict[str, Any], error: type[H5daskError], text: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=text):
        written(example_file("activations"), tmp_path / "a.h5", **asked)
    assert list(tmp_path.iterdir()) == []


def test_statistics_of_another_way_or_width_are_refused(tmp_path: Path) -> None:
    path, saved = example_file("activations"), str(tmp_path / "fitted.nc")
    written(path, tmp_path / "a.h5", variable="activations", how="zscore", save=saved)
    for asked, text in (
        ({"variable": "activations", "how": "minmax"}, "fitted for 'zscore', not 'minmax'"),
        ({"variable": "activations", "how": "l2"}, "fitted for 'zscore', not 'l2'"),
        ({"variable": "logits", "how": "zscore"}, "found layer of size 2, logits has no such dim"),
    ):
        with pytest.raises(Refused, match=text):
            written(path, tmp_path / "b.h5", fitted=saved, **asked)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.h5", "fitted.nc"]


# What a layout's consumer finds too large


def wide(tmp_path: Path) -> str:
    """Write one vector more than wide enough, and return its file."""
    ds = example("episodes")
    vectors = np.ones((ds.sizes["episode"], 2_049), np.float32)
    path = tmp_path / "wide.h5"
    with pytest.warns(UserWarning, match="too large: 2049"):
        h5dask.write_dataset(
            ds.assign(embeddings=(("episode", "feature"), vectors)), path, allow_large=True
        )
    return str(path)


def test_what_is_too_large_is_refused_before_a_value_is_read(tmp_path: Path) -> None:
    path, output = wide(tmp_path), tmp_path / "unit.h5"
    ds = open_any(path)
    with (
        watch(quiet=True) as progress,
        pytest.raises(Refused, match="dimension too large: 2049 > 2048; expected at most 2048"),
    ):
        write_scaled(ds, Scaling.of(ds), str(output), progress=progress)
    assert not progress.records
    told = call("normalize", path, "-o", output)
    assert (told.exit_code, output.exists()) == (2, False)
    assert told.stderr == (
        f"Error: {output}: Embedding dimension too large: 2049 > 2048; expected at most 2048; "
        "reduce the dimension; pass allow_large=True to write it anyway, for others "
        "(--allow-large)\n"
    )


@pytest.mark.parametrize("verb", ["normalize", "concat"])
def test_what_is_too_large_is_written_where_it_is_wanted(verb: str, tmp_path: Path) -> None:
    path, output = wide(tmp_path), tmp_path / "unit.h5"
    assert "too large" in call(verb, path, "-o", output).stderr
    told = call(verb, path, "-o", output, "--allow-large", "--quiet")
    assert told.exit_code == 0, told.stderr
    assert h5dask.open_dataset(output).sizes["feature"] == 2_049


def test_text_in_memory_is_told_before_its_size_is(tmp_path: Path) -> None:
    ds = open_any(example_file("episodes")).load()
    with (
        watch(quiet=True) as progress,
        pytest.raises(Refused, match="metadata_task: found text; expected numbers"),
    ):
        write_scaled(
            ds, Scaling.of(ds, variable="metadata_task"), str(tmp_path / "a.h5"), progress=progress
        )


def test_vectors_alone_have_no_limit(tmp_path: Path) -> None:
    told = call("normalize", wide(tmp_path), "-o", tmp_path / "unit.nc", "--quiet")
    assert told.exit_code == 0, told.stderr


# What isn't one variable, and what has no dims


def test_a_dataset_is_not_one_variable() -> None:
    ds = example("episodes")
    said = r"^x: found a Dataset, expected one variable, such as ds\.embeddings$"
    for ask in (h5dask.normalize, h5dask.fit):
        with pytest.raises(Refused, match=said):
            ask(ds, "l2", dim="feature")
    with pytest.raises(Refused, match=r"^x: found a ndarray, expected one variable, as"):
        h5dask.normalize(np.ones((2, 2)), dim="feature")


@pytest.mark.parametrize(
    ("how", "such"), [("l2", '"feature"'), ("zscore", '"episode"'), ("whiten", '"episode"')]
)
def test_dims_that_are_usual_are_named(how: str, such: str) -> None:
    with pytest.raises(Refused, match=f"^dim: found None, expected .*, such as dim={such}, or fit"):
        h5dask.normalize(example("episodes").embeddings, how)
