"""Examples of every layout, and the battery of tests that every layout passes.

A package that adds a layout tests it in three lines::

    class TestMine(LayoutTests):
        layout = "mine"
"""

from __future__ import annotations

import atexit
import os
import pickle
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr

from h5dask import layouts
from h5dask.check.structure import problems
from h5dask.errors import Conflict, H5daskError
from h5dask.joining import concat
from h5dask.reading.reader import identify, open_dataset, open_datatree, validate
from h5dask.storage.indexcache import described
from h5dask.storage.remote import expand
from h5dask.writing.writer import write_dataset


def example(layout: str, seed: int = 0) -> xr.Dataset:
    """Return a small valid Dataset of a layout, in memory.

    Parameters
    ----------
    layout : str
        Name of the layout.
    seed : int, default 0
        Seed of its random values.

    Examples
    --------
    >>> example("ann").sizes["feature"] == example("ann").test.shape[1]
    True
    """
    return layouts.get(layout).example(np.random.default_rng(seed))


@cache
def example_file(layout: str, seed: int = 0) -> str:
    """Return the path of a small valid file of a layout; it is removed when Python ends.

    Examples
    --------
    >>> identify(example_file("proteins"))
    'proteins'
    """
    folder = tempfile.mkdtemp(prefix="h5dask-example-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = os.path.join(folder, f"{layout}.h5")
    write_dataset(example(layout, seed), path, layout=layout)
    return path


def refuse_to_compute(graph: Any, keys: Any, **_: Any) -> Any:
    """Be a dask scheduler that computes nothing: what runs under it is lazy."""
    raise AssertionError(f"something was computed: {keys}")


def assert_same_form(one: str, other: str) -> None:
    """Raise unless two files hold the same paths, types, shapes, chunks, filters, attributes."""
    (a, _), (b, _) = (described(expand(path)[0]) for path in (one, other))
    assert a.paths == b.paths
    for path in a:
        assert a.shape(path) == b.shape(path), path
        assert a.form(path) == b.form(path), path
    assert a.groups == b.groups
    assert a.attrs.keys() == b.attrs.keys()
    for path, attrs in a.attrs.items():
        assert list(map(repr, attrs)) == list(map(repr, b.attrs[path])), path
    assert a.links == b.links


def _raises(error: type[H5daskError], text: str, action: Callable[[], Any]) -> None:
    said = None
    try:
        action()
    except error as raised:
        said = str(raised)
    assert said is not None, f"{error.__name__} was not raised"
    assert re.search(text, said), said


class LayoutTests:
    """What every layout must pass; subclass it and set `layout`."""

    layout: str

    def file(self, folder: Path, name: str = "example.h5", seed: int = 0) -> str:
        """Write the example and return its path."""
        path = str(folder / name)
        write_dataset(example(self.layout, seed), path, layout=self.layout)
        return path

    def test_the_example_is_valid(self, tmp_path: Path) -> None:
        """The example is recognised, and nothing in it breaks a rule."""
        path = self.file(tmp_path)
        assert identify(path) == self.layout
        assert validate(path, values=True) == ()

    def test_values_survive(self, tmp_path: Path) -> None:
        """What was written is what is opened."""
        opened = open_dataset(self.file(tmp_path))
        xr.testing.assert_equal(opened.compute(), example(self.layout))
        assert dict(opened.attrs) == dict(example(self.layout).attrs)

    def test_the_same_file(self, tmp_path: Path) -> None:
        """What is opened and written back is the same file."""
        path, again = self.file(tmp_path), str(tmp_path / "again.h5")
        write_dataset(open_dataset(path), again)
        assert_same_form(path, again)
        xr.testing.assert_identical(open_dataset(again).compute(), open_dataset(path).compute())

    def test_over_itself(self, tmp_path: Path) -> None:
        """The target may be the input."""
        path = self.file(tmp_path)
        before = open_dataset(path).compute()
        write_dataset(open_dataset(path), path, overwrite=True)
        xr.testing.assert_identical(open_dataset(path).compute(), before)

    def test_any_chunks_give_the_same(self, tmp_path: Path) -> None:
        """Blocks never change a value."""
        path = self.file(tmp_path)
        expected = open_dataset(path).compute()
        every: tuple[Any, ...] = (None, {}, "auto", 1, dict.fromkeys(expected.sizes, 2))
        for chunks in every:
            xr.testing.assert_identical(open_dataset(path, chunks=chunks).compute(), expected)

    def test_opening_is_lazy(self, tmp_path: Path) -> None:
        """Opening, selecting and joining read no value; no lock and no open file is in a graph."""
        path = self.file(tmp_path)
        with dask.config.set(scheduler=refuse_to_compute):
            ds = open_dataset(path)
            ds.isel({dim: slice(0, 1) for dim in ds.sizes if dim not in ds.xindexes})
            graph = {k: v for x in ds.variables.values() for k, v in _graph(x).items()}
        assert graph
        assert b"h5py" not in pickle.dumps(graph)

    def test_tokens(self, tmp_path: Path) -> None:
        """Names of blocks are the same at reopening, and others for a replaced file."""
        path = self.file(tmp_path)
        first, second = (_names(open_dataset(path)) for _ in range(2))
        assert first == second
        write_dataset(example(self.layout, 1), path, layout=self.layout, overwrite=True)
        assert not first & _names(open_dataset(path))

    def test_pickling(self, tmp_path: Path) -> None:
        """A Dataset that was pickled reads the same and is written the same."""
        path, again = self.file(tmp_path), str(tmp_path / "again.h5")
        ds = pickle.loads(pickle.dumps(open_dataset(path)))
        xr.testing.assert_identical(ds.compute(), open_dataset(path).compute())
        write_dataset(ds, again)
        assert_same_form(path, again)

    def test_xarray_engine(self, tmp_path: Path) -> None:
        """Xarray opens it with its usual keywords."""
        path = self.file(tmp_path)
        expected = open_dataset(path).compute()
        engines: tuple[Any, ...] = (None, {})
        for chunks in engines:
            with xr.open_dataset(path, engine="h5dask", chunks=chunks) as ds:
                xr.testing.assert_identical(ds.compute(), expected)
        name = str(next(iter(expected.data_vars)))
        with xr.open_dataset(path, engine="h5dask", drop_variables=[name]) as ds:
            assert name not in ds

    def test_datatree(self, tmp_path: Path) -> None:
        """As a tree it holds the same rows."""
        path = self.file(tmp_path)
        tree, ds = open_datatree(path), open_dataset(path)
        dim = layouts.get(self.layout).along
        if dim is not None:
            assert sum(node.sizes.get(dim, 0) for node in tree.subtree) == ds.sizes[dim]
        with xr.open_datatree(path, engine="h5dask") as other:
            assert set(other.children) == set(tree.children)

    def test_memory_url(self, tmp_path: Path) -> None:
        """It opens from and writes to an fsspec URL."""
        path = self.file(tmp_path)
        url = f"memory://h5dask-{uuid.uuid4().hex}/a.h5"
        write_dataset(open_dataset(path), url)
        xr.testing.assert_equal(open_dataset(url).compute(), open_dataset(path).compute())
        back = tmp_path / "back.h5"
        back.write_bytes(expand(url)[0].read())
        assert_same_form(path, str(back))

    def test_compression(self, tmp_path: Path) -> None:
        """Compressed it holds the same values."""
        path, packed = self.file(tmp_path), str(tmp_path / "packed.h5")
        write_dataset(open_dataset(path), packed, compression="gzip")
        xr.testing.assert_equal(open_dataset(packed).compute(), open_dataset(path).compute())

    def test_end_to_end(self, tmp_path: Path) -> None:
        """Files of the layout lie end to end, or say why they can't."""
        layout = layouts.get(self.layout)
        paths = [self.file(tmp_path, f"{i}.h5") for i in range(2)]
        if layout.along is None:
            _raises(H5daskError, re.escape(layout.apart), lambda: open_dataset(paths))
            return
        both = open_dataset(str(tmp_path / "[01].h5"))
        assert both.sizes[layout.along] == 2 * example(self.layout).sizes[layout.along]
        assert dict.fromkeys(both["source"].values.tolist()) == dict.fromkeys(paths)
        joined = concat([open_dataset(path) for path in paths])
        xr.testing.assert_identical(both.compute(), joined.compute())
        target = str(tmp_path / "both.h5")
        write_dataset(both, target)
        found = open_dataset(target).compute()
        assert found.sizes == both.sizes
        for name in found.data_vars:
            assert _sum(found[name]) == _sum(both[name].compute())

    def test_every_required_array_is_missed(self, tmp_path: Path) -> None:
        """Without any one of its arrays a file has a problem that names it."""
        layout = layouts.get(self.layout)
        contents, _ = described(expand(self.file(tmp_path))[0])
        for spec in layout.arrays:
            kept = [i for i, path in enumerate(contents.paths) if spec.match(path) is None]
            if spec.required and len(kept) < len(contents.paths):
                said = " ".join(str(p) for p in problems(layout, contents.only(kept)))
                assert spec.paths[0].split("/")[-1].split("{")[0] in said

    def test_an_existing_target_is_kept(self, tmp_path: Path) -> None:
        """Writing over a file wants `overwrite`."""
        path = self.file(tmp_path)
        before = Path(path).read_bytes()
        _raises(Conflict, "exists already", lambda: write_dataset(open_dataset(path), path))
        assert Path(path).read_bytes() == before
        assert os.listdir(tmp_path) == ["example.h5"]


def _graph(variable: xr.Variable) -> dict[Any, Any]:
    return dict(variable.data.__dask_graph__()) if isinstance(variable.data, da.Array) else {}


def _names(ds: xr.Dataset) -> set[str]:
    return {v.data.name for v in ds.variables.values() if isinstance(v.data, da.Array)}


def _sum(values: xr.DataArray) -> Any:
    """Return what doesn't depend on the order of rows."""
    if values.dtype == object:
        return sorted(map(str, values.values.ravel().tolist()))
    return float(np.nansum(values.values, dtype=np.float64).round(6))
