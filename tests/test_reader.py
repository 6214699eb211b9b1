"""Opening: what is read and when, blocks, groups, names, and clear words for what can't be."""

import pickle
import re
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr

import h5dask
from h5dask import layouts
from h5dask.errors import LayoutError, NotFound, Refused
from h5dask.storage.ranges import LocalFile
from h5dask.testing import example, example_file
from tests.files import activations, proteins
from tests.files.same import differences
from tests.rewriting import WIDE, with_base

NAMES = layouts.names()


@pytest.fixture(scope="module", autouse=True)
def made() -> None:
    """Write the examples before a test may forbid to compute."""
    for layout in NAMES:
        example_file(layout)


@pytest.fixture
def bytes_read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Note how many bytes each read of a local file takes."""
    noted: list[int] = []
    plain = LocalFile.read_into

    def noting(self: LocalFile, offset: int, into: memoryview) -> bool:
        noted.append(into.nbytes)
        return plain(self, offset, into)

    monkeypatch.setattr(LocalFile, "read_into", noting)
    return noted


@pytest.mark.parametrize("layout", NAMES)
@pytest.mark.parametrize(
    "chunks", ["auto", {}, 1, 3, -1, "100B", "1MiB", {"nowhere": 2}, "first", "first auto"]
)
def test_any_blocks_are_shared_and_give_the_same_values(layout: str, chunks: Any) -> None:
    path, expected = example_file(layout), example(layout)
    dim = str(next(iter(expected.sizes)))
    if isinstance(chunks, str) and chunks.startswith("first"):
        chunks = {dim: "auto" if "auto" in chunks else 2}
    ds = h5dask.open_dataset(path, chunks=chunks)
    assert all(isinstance(x.data, da.Array) for x in ds.data_vars.values())
    assert {d: sum(n) for d, n in ds.chunks.items()}.items() <= dict(ds.sizes).items()
    xr.testing.assert_equal(ds.compute(), expected)


def test_none_indexes_lazily_without_dask(no_compute: None, bytes_read: list[int]) -> None:
    ds = h5dask.open_dataset(example_file("ann"), chunks=None)
    assert ds.chunks == {}
    assert not any(ds[name].variable._in_memory for name in ds.variables)
    part = ds.train[3:5, 1:]
    assert bytes_read == []
    assert np.array_equal(part, example("ann").train[3:5, 1:])
    assert sum(bytes_read) <= 2 * 4 * 4


def test_one_row_is_read_as_one_row(tmp_path: Path, bytes_read: list[int]) -> None:
    ds = h5dask.open_dataset(with_base(tmp_path / "a.h5", WIDE))
    assert np.array_equal(ds.train[5], WIDE[5])
    assert bytes_read == [WIDE[5].nbytes]


def test_one_row_of_chunks_is_read_as_its_chunks(tmp_path: Path, bytes_read: list[int]) -> None:
    ds = h5dask.open_dataset(with_base(tmp_path / "a.h5", WIDE, chunks=(10, 3)))
    assert np.array_equal(ds.train[5], WIDE[5])
    assert sum(bytes_read) <= 2 * 10 * 3 * 4
    del bytes_read[:]
    assert ds.train[5, 4] == WIDE[5, 4]
    assert sum(bytes_read) <= 10 * 3 * 4


def test_labels_read_only_what_they_select(bytes_read: list[int]) -> None:
    ds = h5dask.open_dataset(example_file("proteins")).sel(structure=7, sample=1)
    assert bytes_read == []
    assert ds.logits.shape == (12, 21)
    ds.logits.load()
    assert sum(bytes_read) == 12 * 21 * 4
    del bytes_read[:]
    one = h5dask.open_dataset(example_file("activations")).sel(scenario="base", layer=13)
    one.activations.load()
    held = example("activations").sel(scenario="base", layer=13).activations
    assert held.nbytes <= sum(bytes_read) < 40 * held.nbytes  # one chunk of one dataset


@pytest.mark.parametrize("layout", NAMES)
def test_opening_and_selecting_computes_nothing(
    layout: str, no_compute: None, bytes_read: list[int]
) -> None:
    ds = h5dask.open_dataset(example_file(layout))
    labels = [name for name in ds.xindexes if ds[name].ndim == 1]
    for name in labels:
        ds.sel({name: ds[name].values[0]})
    ds = ds.assign({f"twice_{n}": x * 2 for n, x in ds.data_vars.items() if x.dtype.kind == "f"})
    repr(ds)
    ds.nbytes  # noqa: B018
    assert bytes_read == []


def keys(ds: xr.Dataset) -> set[str]:
    return {x.data.name for x in ds.variables.values() if isinstance(x.data, da.Array)}


@pytest.mark.parametrize("layout", NAMES)
def test_names_tell_what_is_read(layout: str) -> None:
    ds = h5dask.open_dataset(example_file(layout))
    for name, x in ds.variables.items():
        if isinstance(x.data, da.Array):
            assert x.data.name.startswith(f"read-{name}-")
            assert len(x.data.name) == len(f"read-{name}-") + 32
    assert keys(ds) == keys(h5dask.open_dataset(example_file(layout)))
    assert not keys(ds) & keys(h5dask.open_dataset(example_file(layout), chunks=1))


def test_groups_alike_have_names_of_their_own() -> None:
    path, folder = example_file("activations"), "scenarios/matching_few_shot_prefilled/data"
    one, other = (
        h5dask.open_dataset(path, group=f"{folder}/prefilled/{branch}")
        for branch in ("matching", "nonmatching")
    )
    assert not keys(one) & keys(other)
    apart = one.logits.data - other.logits.data
    rows = example("activations").sel(scenario="matching_few_shot_prefilled").logits.values
    assert np.array_equal(apart.compute(), rows[:2] - rows[2:])
    tree = h5dask.open_datatree(path)
    assert len({node.logits.data.name for node in tree.leaves}) == 3
    assert len({node.prompts.data.name for node in tree.leaves}) == 2  # branches share a text
    whole = h5dask.open_dataset(path).compute()
    for node in tree.compute().leaves:
        part = whole.sel(scenario=node.scenario.values[0], branch=node.branch.values[0])
        xr.testing.assert_equal(node.to_dataset(), part)


def test_what_is_secret_is_never_shown(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}-secret/a.h5"
    h5dask.write_dataset(example("ann"), url)
    ds = h5dask.open_dataset(url, storage_options={"password": "hush-hush"})
    array = ds.train.data
    shown = [repr(ds), ds._repr_html_(), *map(repr, array.__dask_graph__().items()), *keys(ds)]
    assert not any("hush" in text for text in shown)
    xr.testing.assert_equal(pickle.loads(pickle.dumps(ds)).compute(), example("ann"))


def test_a_group_opens_alone() -> None:
    path = example_file("activations")
    whole = h5dask.open_dataset(path)
    for group in ("scenarios/base", "/scenarios/base/"):
        part = h5dask.open_dataset(path, group=group)
        xr.testing.assert_equal(part.compute(), whole.sel(scenario="base").compute())
    for group in ("", "/"):
        xr.testing.assert_identical(
            h5dask.open_dataset(path, group=group).compute(), whole.compute()
        )
    xr.testing.assert_equal(h5dask.open_dataset(path, group="scenarios").compute(), whole.compute())
    branch = h5dask.open_dataset(
        path, group="scenarios/matching_few_shot_prefilled/data/prefilled/matching"
    )
    assert set(branch.branch.values) == {"matching"}
    one = h5dask.open_dataset(example_file("proteins"), group="structure_7")
    xr.testing.assert_equal(one.compute(), example("proteins").sel(structure=7))


@pytest.mark.parametrize("layout", NAMES)
def test_any_variable_is_left_out(layout: str) -> None:
    for name in map(str, example(layout).variables):
        if name == "row_size":
            continue
        ds = h5dask.open_dataset(example_file(layout), drop_variables=name)
        assert name not in ds.variables
        expected = example(layout)
        expected = expected.drop_indexes(list(expected.xindexes)).drop_vars(name)
        gone = set(expected.dims) - {d for x in expected.data_vars.values() for d in x.dims}
        expected = expected.drop_vars([d for d in gone if d in expected.coords])
        xr.testing.assert_equal(ds.drop_indexes(list(ds.xindexes)).compute(), expected)


@pytest.mark.parametrize("name", activations.UNEQUAL)
def test_unequal_scenarios_are_named_and_open_alone(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    arrays = activations.UNEQUAL[name].write(path)
    with pytest.raises(LayoutError, match=r"a\.h5: /scenarios/.*; expected .*group=.*_datatree"):
        h5dask.open_dataset(path)
    groups = {re.match(r"scenarios/[^/]+", held)[0] for held in arrays}  # type: ignore[index]
    tree = h5dask.open_datatree(path).compute()
    assert len(tree.leaves) >= len(groups)
    for group in groups:
        assert h5dask.open_dataset(path, group=group).compute().sizes["record"] > 0


@pytest.mark.parametrize("name", proteins.UNEQUAL)
def test_what_some_structures_lack_reads_as_nan(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    arrays = proteins.UNEQUAL[name].write(path)
    ds = h5dask.open_dataset(path)
    for number, variable in product(sorted(set(ds.structure.values.tolist())), ds.data_vars):
        values = ds.sel(structure=number)[variable].values
        held = arrays.get(f"structure_{number}/{variable}")
        assert np.isnan(values).all() if held is None else values.tobytes() == held.tobytes()
    h5dask.write_dataset(ds, tmp_path / "b.h5")
    assert differences(path, tmp_path / "b.h5") == []


def test_what_does_not_fit_can_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    h5dask.write_dataset(example("episodes"), path)
    with h5py.File(path, "a") as f:
        f["metadata/actions"] = np.zeros((6, 3))
        f["metadata/short"] = np.zeros(5)
    with pytest.raises(LayoutError, match=r"(?s)/metadata/actions: rank 2.*/metadata/short: 5 alo"):
        h5dask.open_dataset(path)
    ds = h5dask.open_dataset(path, drop_variables=["metadata_actions", "metadata_short"])
    xr.testing.assert_equal(ds.compute(), example("episodes"))


Action = Callable[[str], Any]
WRONG: dict[str, tuple[Action, type[Exception], str]] = {
    "no file": (lambda p: h5dask.open_dataset(p + "x"), NotFound, "no such file"),
    "folder": (lambda p: h5dask.open_dataset(str(Path(p).parent)), NotFound, "is a folder"),
    "pattern": (lambda p: h5dask.open_dataset(p + "*.zz"), NotFound, "no file matches"),
    "no files": (lambda p: h5dask.open_dataset([]), NotFound, "at least one"),
    "layout": (
        lambda p: h5dask.open_dataset(p, layout="faiss"),
        LayoutError,
        "there are activations, ann, episodes, proteins",
    ),
    "other layout": (
        lambda p: h5dask.open_dataset(p, layout="episodes"),
        LayoutError,
        r"ann.h5: holds none of the datasets of episodes \(it holds distances, ",
    ),
    "group": (lambda p: h5dask.open_dataset(p, group="x"), NotFound, "no group 'x'; groups with"),
    "identify two": (lambda p: h5dask.identify([p, p]), Refused, "one of 2 files"),  # type: ignore[arg-type]
    "validate two": (lambda p: h5dask.validate([p, p]), Refused, "one of 2 files"),  # type: ignore[arg-type]
    "tree of two": (lambda p: h5dask.open_datatree([p, p]), Refused, "one of 2 files"),  # type: ignore[arg-type]
    "no blocks": (lambda p: h5dask.open_dataset(p, chunks=0), Refused, "chunks=0: train of shape"),
    "half blocks": (lambda p: h5dask.open_dataset(p, chunks=2.5), Refused, "lengths of at least 1"),  # type: ignore[arg-type]
    "blocks": (
        lambda p: h5dask.open_dataset(p, chunks={"vector": (1, 2)}),
        Refused,
        "do not add up to shape",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_open_says_why(wrong: str) -> None:
    action, error, text = WRONG[wrong]
    with pytest.raises(error, match=text):
        action(example_file("ann"))


def test_a_group_without_datasets_says_so() -> None:
    with pytest.raises(NotFound, match="group 'metadata' holds no dataset; groups with datasets"):
        h5dask.open_dataset(example_file("activations"), group="metadata")


def test_file_objects_and_urls(tmp_path: Path) -> None:
    path = example_file("episodes")
    for urlpath in (Path(path), f"file://{path}", [path]):
        xr.testing.assert_equal(h5dask.open_dataset(urlpath).compute(), example("episodes"))
    with open(path, "rb") as file:
        file.seek(99)
        ds = h5dask.open_dataset(file)
    xr.testing.assert_equal(pickle.loads(pickle.dumps(ds)).compute(), example("episodes"))
    assert h5dask.identify(Path(path)) == "episodes"


def test_a_file_that_is_named_twice_is_there_twice_with_a_warning() -> None:
    path = example_file("episodes")
    with pytest.warns(UserWarning, match=r"\.h5: named 2 times, so its rows are there 2 times;"):
        ds = h5dask.open_dataset([path, Path(path)])
    assert ds.sizes["episode"] == 2 * example("episodes").sizes["episode"]


def test_ten_thousand_nodes_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("h5dask.reading.reader.MOST_NODES", 1)
    with pytest.raises(Refused, match="2 groups, at most 1 become a tree; open_dataset opens them"):
        h5dask.open_datatree(example_file("proteins"))
