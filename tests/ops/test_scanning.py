"""What a scan finds, against numpy on the whole values; each block read once, in any blocks."""

from collections import Counter
from functools import partial

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import h5dask
from h5dask.errors import Refused
from h5dask.indexes import Labels, RaggedIndex
from h5dask.ops.cost import SCRATCH, TEXT, Stored
from h5dask.ops.findings import BIT, KINDS, Place, look, merge, settled, sought
from h5dask.ops.scanning import row_dims, scan, scanning_cost
from h5dask.testing import example_file, refuse_to_compute
from tests.labelled import labelled, ragged

LAYOUTS = ["activations", "proteins", "ann", "episodes"]
HOSTILE = [np.nan, np.inf, -np.inf, -0.0, 6e-8, 65504.0]


def expected(values):
    """Return what numpy finds in floats: counts, first rows, and bad rows."""
    hits = {
        "nan": np.isnan(values),
        "posinf": np.isposinf(values),
        "neginf": np.isneginf(values),
        "zero_rows": (values == 0).all(axis=-1),
    }
    rows = {kind: hit.reshape(len(values), -1).any(axis=1) for kind, hit in hits.items()}
    counts = {kind: int(hit.sum()) for kind, hit in hits.items()}
    first = {kind: int(np.argmax(hit)) if hit.any() else -1 for kind, hit in rows.items()}
    return counts, first, np.logical_or.reduce(list(rows.values()))


def assert_found(found, name, counts, first):
    one = found.sel(variable=name)
    assert {kind: int(one[kind]) for kind in counts} == counts
    assert {kind: int(one[f"first_{kind}"]) for kind in first} == first


def planted(seed, shape, dtype="f2", n_hostile=12):
    """Return numbers with hostile ones among them, and a third of all vectors zero."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=shape)
    values[rng.random(shape[:-1]) < 0.3] = 0
    values.reshape(-1)[rng.integers(values.size, size=n_hostile)] = rng.choice(HOSTILE, n_hostile)
    return values.astype(dtype)


def cuts(n):
    """Draw lengths of blocks that add up to n."""
    ends = st.sets(st.integers(1, n - 1), max_size=5) if n > 1 else st.just(set())
    return ends.map(lambda ends: tuple(np.diff([0, *sorted(ends), n]).tolist()))


@given(st.data(), st.integers(0, 2**32), st.sampled_from(["f2", "f4", "f8"]))
def test_any_blocks_give_what_numpy_finds(data, seed, dtype):
    shape = data.draw(st.tuples(st.integers(1, 30), st.integers(1, 4), st.integers(2, 6)))
    values = planted(seed, shape, dtype)
    chunks = data.draw(st.tuples(*map(cuts, shape)))
    ds = xr.Dataset({"x": (("row", "layer", "col"), da.from_array(values, chunks))})
    found = scan(ds).compute(scheduler="sync")
    counts, first, bad = expected(values)
    assert_found(found, "x", counts, first)
    np.testing.assert_array_equal(found.bad_row, bad)
    assert int(found["values"].item()) == values.size
    assert int(found.nonfinite.item()) == int((~np.isfinite(values)).sum())


def test_many_blocks_go_through_several_merges():
    values = planted(0, (400, 3, 8), n_hostile=200)
    whole = da.from_array(values, chunks=-1)
    expected = scan(xr.Dataset({"x": (("row", "layer", "col"), whole)})).compute()
    for chunks in ((1, 3, 8), (1, 1, 2), (400, 1, 1), (7, 2, 3)):
        ds = xr.Dataset({"x": (("row", "layer", "col"), whole.rechunk(chunks))})
        xr.testing.assert_identical(scan(ds).compute(), expected)


@given(st.data(), st.integers(0, 2**32))
def test_merging_is_associative(data, seed):
    values = planted(seed, (9, 4, 4))
    bits = sought(values.dtype, values.shape)
    parts = [
        look(
            values[row : row + 3, layer : layer + 2, col : col + 2],
            Place(start=row, beyond=(4,), within=(slice(layer, layer + 2),)),
            bits=bits,
        )
        for row in (0, 3, 6)
        for layer in (0, 2)
        for col in (0, 2)
    ]
    first, last = sorted(data.draw(st.tuples(st.integers(1, 11), st.integers(1, 11))))
    thirds = [run for run in (parts[:first], parts[first:last], parts[last:]) if run]
    whole, grouped = settled(merge(parts)), settled(merge(list(map(merge, thirds))))
    np.testing.assert_array_equal(grouped.marks, whole.marks)
    np.testing.assert_array_equal(grouped.counts, whole.counts)
    assert whole.counts[:4].tolist() == list(expected(values)[0].values())


class Counting:
    """An array that counts how often each place of it is read."""

    def __init__(self, values):
        self.values, self.reads = values, Counter()
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim

    def __getitem__(self, at):
        self.reads[str(at)] += 1
        return self.values[at]


def lazily(counting, chunks):
    return da.from_array(counting, chunks, name=False, meta=counting.values[:0])


@pytest.mark.parametrize(
    "names", [None, ["nan"], ["bad_row", "bad_item"], ["first_nan", "zero_rows", "nonfinite"]]
)
def test_each_block_is_read_once(names):
    sources = {
        "x": Counting(planted(0, (40, 3, 8))),
        "text": Counting(np.array(["a", "b"] * 20, object)),
        "row_ids": Counting(np.array([str(i) for i in range(40)], object)),
        "y": Counting(planted(1, (10, 4))),
    }
    x, text, row_ids, y = sources.values()
    ds = xr.Dataset(
        {
            "x": (("row", "layer", "col"), lazily(x, (7, 2, 3))),
            "text": ("row", lazily(text, 7)),
            "row_ids": ("row", lazily(row_ids, 7)),
            "y": (("item", "feature"), lazily(y, (3, 8))),
        }
    )
    found = scan(ds)
    (found if names is None else found[names]).compute()
    for name, source in sources.items():
        assert set(source.reads.values()) == {1}
        assert len(source.reads) == np.prod(ds[name].data.numblocks)


def test_what_cannot_be_wrong_is_not_read(no_compute):
    never = {
        "neighbors": (("row", "k"), da.zeros((4, 3), dtype="i8")),
        "flags": (("row", "k"), da.zeros((4, 3), dtype=bool)),
        "sizes": ("row", da.zeros(4, dtype="u1")),
        "column": (("row", "one"), da.zeros((4, 1), dtype="i1")),
        "nothing": (("none", "k"), da.zeros((0, 3))),
        "scalar": ((), da.zeros(())),
    }
    found = scan(xr.Dataset(never))
    assert found["values"].values.tolist() == [12, 12, 4, 4, 0]
    with dask.config.set(scheduler="sync"):
        found = found.compute()
    assert not found.nonfinite.any()
    assert (found.first_nan == -1).all()
    assert not found.bad_row.any()
    assert found.bad_none.shape == (0,)


def test_zero_rows_of_eight_bits_but_not_of_single_values():
    values = np.array([[0, 0], [-128, 0], [0, 1]])
    ds = xr.Dataset(
        {
            "i1": (("row", "col"), values.astype("i1")),
            "u1": (("row", "col"), values.astype("u1")),
            "f4": ("row", np.zeros(3, "f4")),
            "column": (("row", "one"), np.zeros((3, 1), "f4")),
        }
    )
    found = scan(ds)
    assert found.zero_rows.values.tolist() == [1, 1, 0, 0]
    assert found.bad_row.values.tolist() == [True, False, False]


def texts():
    picture = np.zeros(3, np.uint8)
    values = np.empty(9, object)
    values[:] = ["a", "", "é", "\udcff", b"\xff", "é".encode(), b"", None, float("nan")]
    pictures = np.empty(9, object)
    pictures[:] = [picture] * 8 + [None]
    return values, pictures


@pytest.mark.parametrize("chunks", [None, 2, 9])
def test_text(chunks):
    values, pictures = texts()
    ds = xr.Dataset({"text": ("row", values), "thumbnails": ("row", pictures)})
    found = scan(ds if chunks is None else ds.chunk(row=chunks)).compute()
    counts = {"empty": 2, "not_utf8": 2, "nan": 2, "posinf": 0, "zero_rows": 0, "duplicates": 0}
    assert_found(found, "text", counts, {"empty": 1, "not_utf8": 3, "nan": 7, "posinf": -1})
    assert_found(found, "thumbnails", {"empty": 0, "not_utf8": 0, "nan": 1}, {"nan": 8})
    assert np.flatnonzero(found.bad_row).tolist() == [3, 4, 7, 8]


def test_text_of_fixed_width_and_of_several_dims():
    ds = xr.Dataset(
        {
            "u": (("row", "field"), np.array([["a", ""], ["", ""], ["b", "c"]])),
            "s": ("row", np.array([b"a", b"\xff", b""])),
        }
    )
    found = scan(ds)
    assert_found(found, "u", {"empty": 3, "not_utf8": 0}, {"empty": 0})
    assert_found(found, "s", {"empty": 1, "not_utf8": 1}, {"empty": 2, "not_utf8": 1})
    assert found.bad_row.values.tolist() == [False, True, False]


def test_times():
    when = np.array(["2025-01-01", "NaT", "NaT"], "M8[ns]")
    found = scan(xr.Dataset({"when": ("row", when)}))
    assert_found(found, "when", {"nan": 2, "nonfinite": 2}, {"nan": 1})


def test_big_endian_and_complex():
    values = np.array([[0, 0], [np.nan, 1], [np.inf, 1]])
    ds = xr.Dataset(
        {"b": (("row", "col"), values.astype(">f4")), "c": (("row", "col"), values + 0j)}
    )
    found = scan(ds)
    for name in ("b", "c"):
        assert_found(found, name, {"nan": 1, "posinf": 1, "zero_rows": 1}, {"posinf": 2})


@pytest.mark.parametrize("dtype", [object, "U2", "S2", "i4", ">i8", "f2"])
@pytest.mark.parametrize("chunks", [1, 3, 6])
def test_ids_that_are_there_twice(dtype, chunks):
    ids = np.array([1, 2, 1, 3, 2, 1], "i4").astype(dtype)
    coord = ("row", da.from_array(ids, chunks))
    found = scan(xr.Dataset(coords={"row_ids": coord, "label": coord})).compute()
    assert_found(found, "row_ids", {"duplicates": 3}, {"duplicates": 2})
    assert_found(found, "label", {"duplicates": 0}, {"duplicates": -1})
    assert np.flatnonzero(found.bad_row).tolist() == [2, 4, 5]


def test_other_ids_are_named():
    ds = xr.Dataset({"row_ids": ("row", [1, 1]), "name": ("row", ["a", "a"])})
    found = scan(ds, ids=["name"])
    assert found.duplicates.values.tolist() == [0, 1]
    assert scan(ds, ids=()).duplicates.values.tolist() == [0, 0]


def test_ids_that_are_not_utf8_or_not_there():
    ids = np.array(["\udcff", b"\xff", "\udcff", None, None, "x"], object)
    found = scan(xr.Dataset({"row_ids": ("row", ids)}))
    counts, first = {"duplicates": 2, "not_utf8": 3, "nan": 2}, {"duplicates": 2, "nan": 3}
    assert_found(found, "row_ids", counts, first)


def test_labels_of_an_index_are_compared_together():
    ds = labelled()
    assert int(scan(ds).duplicates.sum()) == 0
    twice = ds.isel(record=[0, 1, 0, 2, 1])
    found = scan(twice)
    assert_found(found, "scenario", {"duplicates": 2, "empty": 0}, {"duplicates": 2})
    assert int(found.duplicates.sum()) == 2
    assert found.bad_record.values.tolist() == [False, False, True, False, True]


def test_sizes_of_ragged_rows_are_no_labels():
    ds = ragged()
    found = scan(ds)
    # Two rows of structure 17, of the same size.
    assert_found(found, "structure", {"duplicates": 1}, {"duplicates": 1})
    alone = RaggedIndex("sequence", "residue", 4, {"row_size": [2, 2]})
    found = scan(xr.Dataset({"x": ("residue", np.ones(4))}, xr.Coordinates.from_xindex(alone)))
    assert int(found.duplicates.sum()) == 0


def test_labels_that_are_not_there_or_not_utf8():
    labels = {"name": np.array(["a", b"\xff", ""], object), "noise": [0.1, np.nan, np.inf]}
    ds = xr.Dataset(
        {"x": ("row", np.ones(3))}, xr.Coordinates.from_xindex(Labels("row", labels))
    ).assign_coords(col=[1, 2, 1])
    found = scan(ds)
    assert_found(found, "name", {"not_utf8": 1, "empty": 0}, {"not_utf8": 1})
    assert_found(found, "noise", {"nan": 1, "posinf": 1}, {"nan": 1, "posinf": 2})
    assert_found(found, "col", {"duplicates": 1}, {"duplicates": 2})
    assert found.bad_row.values.tolist() == [False, True, True]


def test_rows_are_those_of_values_first():
    ds = labelled().assign_coords(layer=[13, 13])
    found = scan(ds)
    assert "bad_layer" not in found
    assert int(found.duplicates.sel(variable="layer")) == 1
    assert row_dims(ds) == ["record"]
    assert row_dims(ragged().drop_vars("pseudo_perplexity")) == ["residue", "sequence"]
    assert row_dims(xr.Dataset()) == []


def test_kinds_are_ignored():
    values, _ = texts()
    ds = xr.Dataset({"text": ("row", values), "x": (("row", "col"), np.zeros((9, 2)))})
    found = scan(ds, ignore=("zero_rows", "nan", "duplicates"))
    left = {"values", "posinf", "neginf", "nonfinite", "empty", "not_utf8", "bad_row"}
    assert left == {name for name in map(str, found) if not name.startswith("first_")}
    assert np.flatnonzero(found.bad_row).tolist() == [3, 4]
    assert found.nonfinite.values.tolist() == [0, 0]
    nothing = scan(ds.chunk(), ignore=KINDS)
    assert set(nothing) == {"values", "bad_row"}
    assert not nothing.bad_row.any()
    assert set(scan(ds, ignore="nan")) == set(scan(ds, ignore=["nan"]))


def test_bad_input():
    ds = labelled()
    with pytest.raises(Refused, match=r"ignore: found \['zeros'\]; expected of nan, posinf"):
        scan(ds, ignore=("zeros", "nan"))
    with pytest.raises(Refused, match=r"ids: found \['activations', 'no'\]; expected one-dim"):
        scan(ds, ids=["activations", "no"])
    with pytest.raises(Refused, match="variable: found a dim of this name"):
        scan(ds.rename(record="variable"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_examples_are_clean_and_scanned_lazily(layout):
    path = example_file(layout)
    with dask.config.set(scheduler=refuse_to_compute):
        ds = h5dask.open_dataset(path)
        found = scan(ds)
        assert scan(ds)["nan"].data.name == found["nan"].data.name
    assert found.attrs == {}
    assert found["variable"].values.tolist() == list(ds.variables)
    assert all(f"bad_{dim}" in found for dim in row_dims(ds))
    found = found.compute()
    assert not any(found[f"bad_{dim}"].any() for dim in row_dims(ds))
    assert not found[[kind for kind in KINDS if kind != "empty"]].to_array("kind").any()
    again = scan(h5dask.open_dataset(example_file(layout), chunks=1)).compute()
    xr.testing.assert_identical(again, found)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_in_memory_it_is_found_at_once(layout, no_compute):
    with dask.config.set(scheduler="sync"):
        ds = h5dask.open_dataset(example_file(layout)).compute()
        found = scan(ds)
    assert all(variable.chunks is None for variable in found.variables.values())


def test_cost_by_hand(no_compute):
    text = da.from_array(np.full(10, "ab", object), chunks=5)
    ds = xr.Dataset(
        {
            "x": (("row", "col"), da.zeros((10, 10), chunks=((4, 4, 2), (6, 4)), dtype="f4")),
            "text": ("row", text),
            "labels": ("row", da.zeros(10, dtype="i8")),
            "here": ("row", np.zeros(10)),
        }
    )
    masks = 10
    cost = scanning_cost(ds, stored={"text": Stored(value=2.0)})
    assert (cost.stage, cost.n_blocks, cost.written) == ("scan", 8, 0)
    assert cost.read == 400 + 10 * (16 + 2)
    assert cost.memory == 5 * (TEXT + 2) + SCRATCH + 2 * (10 + 10) + masks + 8 * 5
    ids = scanning_cost(ds.rename(text="row_ids"), stored={"row_ids": Stored(value=2.0)})
    assert ids.memory == cost.memory + 10 * (TEXT + 2) + SCRATCH
    assert scanning_cost(ds[["labels", "here"]]).read == 0


def test_a_mark_has_a_bit_for_each_kind():
    every = partial(look, place=Place(start=0), bits=sum(BIT.values()))
    assert every(np.array([[np.nan, np.inf, -np.inf]])).marks.tolist() == [7]
    assert every(np.array([["", "\udcff"]])).marks.tolist() == [BIT["empty"] + BIT["not_utf8"]]
