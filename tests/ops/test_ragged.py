"""`pad` and `split` against loops over structures, in memory, lazily, on files of every form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import h5dask
from h5dask.errors import Refused
from h5dask.indexes import RaggedIndex
from h5dask.ops import padding
from h5dask.ops.padding import pad
from h5dask.ops.splitting import split
from h5dask.positions import elements_of
from h5dask.results import open_any, write_result
from h5dask.testing import example
from tests.files.proteins import UNEQUAL, VARIANTS

REAL = sorted((Path(__file__).parents[1] / "real/proteins").glob("*.h5"))
AXES = ("sample", "noise", "temperature")


def made(shapes: list[tuple[int, ...]], *, logits: bool = True) -> xr.Dataset:
    """Return structures of (sample, noise, temperature, length), numbered 10, 11, ..."""
    rows: list[tuple[int, ...]] = []
    for number, (*grid, length) in enumerate(shapes, 10):
        rows += [(number, *place, length) for place in np.ndindex(*grid)]
    table = np.array(rows, np.int32).reshape(-1, 5)
    names = ("structure", *AXES, "row_size")
    n = int(table[:, 4].sum())
    rng = np.random.default_rng(len(rows))
    index = RaggedIndex("sequence", "residue", n, dict(zip(names, table.T, strict=True)))
    ds = xr.Dataset(
        {"sequences": ("residue", rng.integers(1, 21, n).astype(np.int32))},
        xr.Coordinates.from_xindex(index),
    )
    if logits:
        ds["logits"] = ("residue", "aa"), rng.normal(size=(n, 21)).astype(np.float32)
    return ds.assign(pseudo_perplexity=("sequence", rng.uniform(1, 20, len(table))))


def parts(ds: xr.Dataset, name: str) -> list[np.ndarray[Any, Any]]:
    """Return the values of each sequence."""
    ends = np.cumsum(ds.row_size.values)
    return np.split(ds[name].values, ends[:-1]) if len(ends) else []


def check(ds: xr.Dataset, padded: xr.Dataset, width: int | None = None) -> None:
    """Compare with each sequence, found by its labels."""
    most = max(ds.row_size.values, default=0) if width is None else width
    labels = ds[["structure", *AXES]].to_dataframe().itertuples(index=False)
    wanted = {name: parts(ds, name) for name in ("sequences", "logits") if name in ds}
    for at, row in enumerate(labels):
        if "structure" in padded.sequences.dims:
            place = {"structure": row.structure, "sample": row.sample, "noise": row.noise}
            if "temperature" in padded.dims:
                place["temperature"] = row.temperature
            one = padded.sel(place)
        else:
            one = padded.isel(sequence=at)
        n = min(most, ds.row_size.values[at])
        assert one.lengths == n
        assert one.mask.values.tolist() == [i < n for i in range(most)]
        for name, each in wanted.items():
            np.testing.assert_array_equal(one[name].values[:n], each[at][:n])
            assert not one[name].values[n:].any()
        if "pseudo_perplexity" in ds:
            np.testing.assert_array_equal(
                one.pseudo_perplexity.values, ds.pseudo_perplexity.values[at]
            )


shapes = st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 3)).flatmap(
    lambda grid: st.lists(st.integers(0, 6).map(lambda n: (*grid, n)), min_size=1, max_size=6)
)
unequal = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 2), st.integers(0, 6)),
    min_size=1,
    max_size=5,
)


@given(shapes, st.integers(1, 9), st.integers(1, 2000))
@settings(max_examples=60)
def test_structures_that_agree_make_a_grid(
    found: list[tuple[int, ...]], chunk: int, block: int
) -> None:
    ds = made(found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(padding, "BLOCK_SIZE", block)
        padded = pad(ds.chunk(residue=chunk, aa=4))
    assert isinstance(padded.logits.data, da.Array)
    assert padded.sequences.dims[0] == "structure"
    assert ("temperature" in padded.dims) == (found[0][2] > 1)
    assert padded.sequences.dtype == np.int32
    assert padded.mask.shape == padded.sequences.shape
    assert padded.logits.shape == (*padded.sequences.shape, 21)
    check(ds, padded.compute())
    xr.testing.assert_identical(split(padded).compute(), ds)


@given(unequal, st.integers(1, 9))
@settings(max_examples=60)
def test_others_come_sequence_by_sequence(found: list[tuple[int, ...]], chunk: int) -> None:
    ds = made(found)
    padded = pad(ds.chunk(residue=chunk))
    check(ds, padded.compute())
    xr.testing.assert_identical(split(padded).compute(), ds)


def test_in_memory_what_was_in_memory() -> None:
    ds = made([(2, 1, 1, 3), (2, 1, 1, 5)])
    padded = pad(ds)
    assert not padded.chunks
    check(ds, padded)
    assert not split(padded).chunks


def test_any_order_of_sequences_gives_the_same_grid() -> None:
    ds = made([(3, 2, 1, 4), (3, 2, 1, 2)])
    order = np.array([3, 0, 5, 1, 4, 2])
    rows = np.concatenate([order, 6 + order[::-1]])
    elements = elements_of(ds.xindexes["structure"].offsets, rows)
    labels = {name: ds[name].values[rows] for name in ds.xindexes}
    index = RaggedIndex("sequence", "residue", None, labels)
    mixed = ds.drop_vars(list(ds.xindexes)).isel(sequence=rows, residue=elements)
    mixed = mixed.assign_coords(xr.Coordinates.from_xindex(index))
    xr.testing.assert_identical(pad(mixed), pad(ds))


def test_selected_structures_samples_and_levels_stay_a_grid() -> None:
    ds = made([(3, 2, 2, 4), (3, 2, 2, 6)])
    padded = pad(ds.sel(sample=[0, 2], noise=1))
    assert dict(padded.sequences.sizes) == {
        "structure": 2, "sample": 2, "noise": 1, "temperature": 2, "position": 6,
    }  # fmt: skip
    assert padded.sample.values.tolist() == [0, 2]
    assert padded.noise.values.tolist() == [1]
    warm = pad(ds.sel(temperature=1))
    assert warm.temperature.item() == 1
    assert split(warm).temperature.values.tolist() == [1] * 12


def test_names_of_structures_stay_theirs() -> None:
    ds = made([(2, 1, 1, 3), (2, 1, 1, 5)])
    labels = {name: ds[name].values for name in ds.xindexes}
    names = np.array(["a", "a", "b", "b"], object)
    index = RaggedIndex("sequence", "residue", 16, {**labels, "structure_id": names})
    ds = ds.drop_indexes(list(labels)).drop_vars(list(labels))
    ds = ds.assign_coords(xr.Coordinates.from_xindex(index))
    ds = ds.assign_coords(source=("sequence", names), seed=("sequence", np.arange(4)))
    padded = pad(ds)
    assert padded.structure_id.dims == padded.source.dims == ("structure",)
    assert padded.seed.dims == ("structure", "sample", "noise")
    xr.testing.assert_identical(split(padded), ds)


@pytest.mark.parametrize("name", [*VARIANTS, *UNEQUAL])
def test_every_form_of_file(name: str, tmp_path: Path) -> None:
    """Against the file's own arrays, read group by group."""
    path = tmp_path / "a.h5"
    {**VARIANTS, **UNEQUAL}[name].write(path)
    ds = h5dask.open_dataset(path)
    padded = pad(ds).compute()
    check(ds.compute(), padded)
    xr.testing.assert_equal(split(padded).sequences, ds.sequences.compute())


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_the_reference_reader_s_arrays(path: Path) -> None:
    padded = pad(h5dask.open_dataset(path)).compute()
    with h5py.File(path) as f:
        groups = sorted(f.values(), key=lambda group: group.attrs["structure_index"])
        width = max(group["sequences"].shape[-1] for group in groups)
        for at, group in enumerate(groups):
            sequences, logits = group["sequences"][:], group["logits"][:]
            n = sequences.shape[-1]
            behind = [(0, 0), (0, 0), (0, width - n)]
            assert np.array_equal(padded.sequences[at], np.pad(sequences, behind))
            assert np.array_equal(padded.logits[at], np.pad(logits, [*behind, (0, 0)]))
            assert padded.mask[at, ..., :n].all()
            assert not padded.mask[at, ..., n:].any()
            assert padded.lengths[at] == n


def test_longer_and_shorter_than_the_longest() -> None:
    ds = made([(2, 1, 1, 3), (2, 1, 1, 5), (2, 1, 1, 0)])
    check(ds, pad(ds, max_length=8), 8)
    check(ds, pad(ds, max_length=4, truncate=True), 4)
    with pytest.raises(Refused, match=r"max_length: found 4, but structure 11 has up to 5 res"):
        pad(ds, max_length=4)
    for wrong in (0, "40", 4.5):
        with pytest.raises(Refused, match=f"max_length: found {wrong!r}; expected a whole number"):
            pad(ds, max_length=wrong)  # type: ignore[arg-type]
    cut = split(pad(ds, max_length=4, truncate=True))
    assert cut.row_size.values.tolist() == [3, 3, 4, 4, 0, 0]


def test_padded_zarr_comes_back(tmp_path: Path) -> None:
    ds = made([(2, 2, 1, 3), (2, 2, 1, 7)])
    write_result(pad(ds.chunk(residue=6)), tmp_path / "padded.zarr")
    back = split(open_any(str(tmp_path / "padded.zarr")))
    xr.testing.assert_equal(back.compute(), ds)


def test_what_was_padded_is_written_as_a_file(tmp_path: Path) -> None:
    ds = example("proteins")
    h5dask.write_dataset(split(pad(ds)), tmp_path / "a.h5")
    assert h5dask.validate(tmp_path / "a.h5") == ()
    xr.testing.assert_equal(h5dask.open_dataset(tmp_path / "a.h5").compute(), ds)


def test_what_cannot_be_padded() -> None:
    ds = example("proteins")
    with pytest.raises(Refused, match="found none; expected one RaggedIndex"):
        pad(ds.isel(sequence=[0]))
    with pytest.raises(Refused, match="row_size: found sizes of sum 44, but residue has the"):
        pad(ds.isel(residue=slice(0, 5)))


def test_what_cannot_be_split() -> None:
    padded = pad(example("proteins"))
    with pytest.raises(Refused, match=r"found variables .*; expected 'lengths'"):
        split(padded.drop_vars("lengths"))
    with pytest.raises(Refused, match=r"lengths: found \[9\]; expected numbers from 0 to 6"):
        split(padded.assign(lengths=("structure", [9, 1])))
    with pytest.raises(Refused, match=r"lengths: found dims"):
        split(padded.rename(sample="draw"))


def test_each_block_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ds = made([(2, 1, 1, 5)] * 6, logits=False)
    seen: list[int] = []

    def noted(block: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        seen.append(len(block))
        return block

    values = da.from_array(ds.sequences.values, chunks=7).map_blocks(noted, dtype=np.int32)
    monkeypatch.setattr(padding, "BLOCK_SIZE", 40)
    pad(ds.assign(sequences=("residue", values))).compute()
    assert sum(seen) == ds.sizes["residue"]
