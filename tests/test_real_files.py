"""Real files of every layout: their known values, their labels, and the same file written back."""

import json
import math
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr

import h5dask
from tests.files.same import differences
from tests.files.variant import read

Array = npt.NDArray[Any]

FOLDER = Path(__file__).parent / "real"
SMALL = sorted(str(p.relative_to(FOLDER)) for p in FOLDER.rglob("*.h*5"))
KNOWN: dict[str, Any] = json.loads(Path(__file__).with_name("known_values.json").read_text())
"""Computed once, apart from h5dask; a sum is the exactly rounded one of the values as float64."""
LARGE = [pytest.param(name, marks=pytest.mark.samples, id=f"large-{name}") for name in KNOWN]
PICTURES = ("thumbnails", "gifs")


@pytest.fixture(params=[*SMALL, *LARGE])
def real(request: pytest.FixtureRequest) -> Path:
    """Every real file in turn."""
    folder = FOLDER if request.param in SMALL else request.getfixturevalue("samples")
    return Path(folder) / request.param


def knowing(what: str) -> pytest.MarkDecorator:
    """Ask for a test of each file of which something is known, and for what is known."""
    names = [name for name, known in KNOWN.items() if what in known]
    return pytest.mark.parametrize("name", names, ids=lambda name: Path(name).stem)


def selected(ds: xr.Dataset, path: str) -> xr.DataArray:
    """Select by labels what one dataset of the file holds."""
    match path.split("/"):
        case ["scenarios", scenario, "text", name]:
            part = ds.sel(scenario=scenario)
            return part.sel(branch=part.branch.values[0])[name]
        case ["scenarios", scenario, "data", *folder, name]:
            branch = "".join(folder).removeprefix("prefilled").lstrip("_")
            part = ds.sel(scenario=scenario, branch=branch)
            if name == "logits":
                return part.logits
            return part.activations.sel(layer=int(name.removeprefix("activations_layer_")))
        case ["metadata", field]:
            return ds[f"metadata_{field}"]
        case [group, name]:
            return ds.sel(structure=int(group.removeprefix("structure_")))[name]
    return ds[path]


def same(found: Array, stored: Array) -> None:
    """Compare values bit for bit, whose leading axes may lie end to end."""
    assert found.size == stored.size
    if stored.dtype == object:
        pairs = zip(found, stored, strict=True)
        assert all(type(a) is type(b) and np.array_equal(a, b) for a, b in pairs)
    else:
        assert found.dtype == stored.dtype
        assert found.tobytes() == stored.tobytes()


def test_labels_select_every_dataset_as_h5py_reads_it(real: Path) -> None:
    ds = h5dask.open_dataset(real)
    for path, stored in read(real).items():
        if stored.size:
            same(selected(ds, path).values, stored)


def test_written_back_it_is_the_same_file(real: Path, tmp_path: Path) -> None:
    h5dask.write_dataset(h5dask.open_dataset(real), tmp_path / "b.h5")
    assert differences(real, tmp_path / "b.h5") == []


def test_nothing_is_wrong_with_it(real: Path) -> None:
    assert h5dask.validate(real, values=True) == ()
    assert h5dask.identify(real) == real.parent.name


def test_the_only_notes_are_the_documented_ones(real: Path) -> None:
    expected = (
        "outside the typical range",  # MiniLM isn't the document's model
        "int8 with 'euclidean'",
        "is text of fixed length",
        "thumbnails beside embeddings",
    )
    notes = [str(note) for note in h5dask.validate(real, values=True, notes=True)]
    assert [n for n in notes if not any(word in n for word in expected)] == []


@pytest.mark.filterwarnings("ignore::xarray.SerializationWarning")
def test_netcdf_and_back(real: Path, tmp_path: Path) -> None:
    ds = h5dask.open_dataset(real, drop_variables=PICTURES)
    ds.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as back:
        equal_but_for_indexes(back, ds)


def test_zarr_and_back(real: Path, tmp_path: Path) -> None:
    ds = h5dask.open_dataset(real, drop_variables=PICTURES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what zarr's own specification leaves open
        ds.to_zarr(tmp_path / "a.zarr")
        back = xr.open_zarr(tmp_path / "a.zarr")
    equal_but_for_indexes(back, ds)


def equal_but_for_indexes(back: xr.Dataset, ds: xr.Dataset) -> None:
    back, ds = back.load(), ds.compute()
    xr.testing.assert_equal(back.drop_indexes(back.xindexes), ds.drop_indexes(ds.xindexes))
    assert back.attrs == ds.attrs


def test_groups_of_every_label(real: Path) -> None:
    ds = h5dask.open_dataset(real, drop_variables=PICTURES)
    dim = {"activations": "record", "proteins": "sequence", "episodes": "episode"}
    rows = dim.get(real.parent.name, "vector")
    ds = ds.assign(place=(rows, np.arange(ds.sizes[rows])))
    labels = [n for n, x in ds.variables.items() if x.dims == (rows,) and n != "place"]
    ds = ds.assign({n: (rows, ds[n].values) for n in labels if n not in ds.xindexes})
    for label in map(str, labels):
        columns = ds[label].values
        for name in {"place", "activations", "embeddings", "train"} & set(ds.data_vars):
            values = ds[name].values.astype(np.float64)
            by = label if label in ds[name].coords else ds[label]
            means = ds[name].astype(np.float64).groupby(by).mean().compute()
            assert set(means[label].values.tolist()) == set(columns.tolist())
            for key in list(dict.fromkeys(columns.tolist()))[:20]:
                expected = values[columns == key].mean(axis=0)
                np.testing.assert_allclose(means.sel({label: key}), expected, rtol=1e-12)


def test_the_tree_has_the_same_rows(real: Path) -> None:
    ds, tree = h5dask.open_dataset(real), h5dask.open_datatree(real)
    for node in tree.leaves:
        part = ds
        for name in {"scenario", "branch", "structure"} & set(node.coords):
            part = part.sel({name: node[name].values[0]})
        assert set(part.data_vars) == set(node.data_vars)
        for name in part.data_vars:
            same(node[name].values, part[name].values)


@knowing("statistics")
def test_known_statistics(name: str, samples: Path) -> None:
    ds = h5dask.open_dataset(samples / name)
    for path, (total, low, high, *norm) in KNOWN[name]["statistics"].items():
        inside = name.startswith("activations")
        values = selected(ds, f"scenarios/{path}" if inside else path).values
        numbers = values.astype(np.float64)
        assert math.isclose(math.fsum(numbers.ravel().tolist()), total, rel_tol=1e-12)
        assert (values.min(), values.max()) == (low, high)
        if norm:
            assert math.isclose(np.linalg.norm(numbers[0]), norm[0], rel_tol=1e-12)


@knowing("contrasts")
def test_known_steering_vectors(name: str, samples: Path) -> None:
    ds = h5dask.open_dataset(samples / name)
    for first, second, norm in KNOWN[name]["contrasts"]:
        one, other = (
            selected(ds, f"scenarios/{place}" if "/data/" in place else in_data(place))
            for place in (first, second)
        )
        apart = one.astype(np.float64).mean("record") - other.astype(np.float64).mean("record")
        assert math.isclose(np.sqrt((apart**2).sum()), norm, rel_tol=1e-12)


def in_data(place: str) -> str:
    """Return the path of what the known values name by scenario, branch and layer."""
    scenario, _, rest = place.partition("/")
    return f"scenarios/{scenario}/data/{rest}"


@knowing("texts")
def test_known_texts(name: str, samples: Path) -> None:
    ds = h5dask.open_dataset(samples / name)
    for scenario, counts in KNOWN[name]["texts"].items():
        for variable, (n, n_letters) in counts.items():
            texts = selected(ds, f"scenarios/{scenario}/text/{variable}").values
            assert (len(texts), sum(map(len, texts))) == (n, n_letters)


@knowing("neighbors_first")
def test_known_neighbors(name: str, samples: Path) -> None:
    ds, known = h5dask.open_dataset(samples / name), KNOWN[name]
    assert ds.neighbors[0, :5].values.tolist() == known["neighbors_first"]
    assert ds.neighbors[-1, :5].values.tolist() == known["neighbors_last"]
    assert ds.distances[0, :3].values.tolist() == known["distances_first"]
    for labels in {"train_labels", "test_labels"} & set(known):
        assert np.bincount(ds[labels]).tolist() == known[labels]


@knowing("ids")
def test_known_episodes(name: str, samples: Path) -> None:
    ds, known = h5dask.open_dataset(samples / name), KNOWN[name]
    ids = ds.episode_ids.values
    assert [len(set(ids)), ids[0], ids[-1]] == known["ids"]
    assert int(ds.metadata_success.sum()) == known["successes"]
    for field, counts in known["counts"].items():
        found = ds[f"metadata_{field}"].to_series().value_counts().to_dict()
        assert {text: found[text] for text in counts} == counts
    if "pictures" in known:
        variable, nbytes = known["pictures"]
        assert sum(picture.nbytes for picture in ds[variable].values) == nbytes
    unit = ds.embeddings / np.sqrt((ds.embeddings**2).sum("feature"))
    cosines = (unit @ unit[0]).values
    order, expected = known["nearest"]
    assert np.argsort(-cosines, kind="stable")[1:4].tolist() == order
    np.testing.assert_allclose(cosines[order], expected, rtol=1e-5)


@knowing("mean_length")
def test_known_groups_of_episodes(name: str, samples: Path) -> None:
    ds, known = h5dask.open_dataset(samples / name), KNOWN[name]
    field = "metadata_task" if "metadata_task" in ds else "metadata_dataset"
    groups = ds[["metadata_episode_length", "metadata_success"]].groupby(ds[field].compute())
    lengths = groups.mean().metadata_episode_length.to_series()
    assert lengths.to_dict() == pytest.approx(known["mean_length"], rel=1e-12)
    assert groups.sum().metadata_success.to_series().to_dict() == known["successes_by"]


@knowing("structures")
def test_known_structures(name: str, samples: Path) -> None:
    ds = h5dask.open_dataset(samples / name)
    letters = ds.aa.values
    for number, known in KNOWN[name]["structures"].items():
        one = ds.sel(structure=int(number))
        with h5py.File(samples / name) as f:
            assert dict(f[f"structure_{number}"].attrs) == known["attrs"]
        assert int(one.sequences.sum()) == known["sum"]
        assert np.bincount(one.sequences, minlength=21).tolist() == known["bincount"]
        shape = tuple(known["shape"])
        assert (one.sizes["sequence"], one.sizes["residue"]) == (
            shape[0] * shape[1],
            np.prod(shape),
        )
        first = one.sel(sample=0, noise=0)
        assert "".join(letters[first.sequences.values]) == known["first"]
        logits = one.logits.values.astype(np.float64)
        total, low, high, norm = known["logits"]
        assert math.isclose(math.fsum(logits.ravel().tolist()), total, rel_tol=1e-12)
        assert (logits.min(), logits.max()) == (low, high)
        assert math.isclose(np.linalg.norm(logits.reshape(*shape, 21)[0]), norm, rel_tol=1e-12)
        for level, corner in enumerate(known["corner"]):
            at = one.sel(noise=level)
            assert at.sel(sample=0).logits[0, :3].values.tolist() == corner
            surest = at.logits.argmax("aa") == at.sequences
            assert float(surest.mean()) == pytest.approx(known["agreement"][level], rel=1e-12)
            odds = np.exp(at.logits.astype(np.float64))
            odds = odds / odds.sum("aa")
            entropy = float((-odds * np.log(odds)).sum("aa").mean())
            assert entropy == pytest.approx(known["entropy"][level], rel=1e-6)
