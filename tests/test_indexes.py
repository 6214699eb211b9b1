"""`Labels` through xarray; and what holds for both indexes: lazy, copied, pickled, stored."""

import copy
import pickle
from pathlib import Path
from typing import Any, NoReturn

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from h5dask.errors import LayoutError, Refused
from h5dask.indexes import Labels, RaggedIndex
from tests.labelled import BRANCH, LABELS, RAGGED, SAMPLE, SCENARIO, labelled, ragged


def refuse(block: np.ndarray) -> NoReturn:
    raise AssertionError("a block was computed")


def lazily(ds: xr.Dataset) -> xr.Dataset:
    """Replace the variables by dask arrays none of which can be computed."""
    chunked = ds.chunk(dict.fromkeys(ds.sizes, 2))
    return chunked.assign(
        {
            name: (var.dims, da.map_blocks(refuse, var.data, dtype=var.dtype, meta=var.data._meta))
            for name, var in chunked.data_vars.items()
        }
    )


class TestSelectingByLabels:
    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ({"scenario": "base"}, [0, 1]),
            ({"scenario": ["y", "base"]}, [0, 1, 5]),
            ({"scenario": ["base", "x"], "branch": "m"}, [1, 2]),
            ({"scenario": "x", "sample": slice(0, 0)}, [3]),
            ({"scenario": "base", "branch": "n"}, []),
            ({"sample": []}, []),
        ],
    )
    def test_rows_and_labels_come_together(
        self, query: dict[str, Any], expected: list[int]
    ) -> None:
        ds = labelled().sel(query)
        assert ds.activations.sel(layer=13).values.tolist() == [2.0 * row for row in expected]
        assert ds.scenario.values.tolist() == SCENARIO[expected].tolist()
        assert ds.scenario.attrs == {"long_name": "name of the scenario"}
        assert isinstance(ds.xindexes["branch"], Labels)

    def test_beside_the_index_of_another_dim(self) -> None:
        ds = labelled().sel(scenario="base", layer=13)
        assert ds.activations.values.tolist() == [0.0, 2.0]

    @pytest.mark.parametrize("query", [{"branch": "m"}, {"scenario": "x"}])
    def test_consecutive_rows_are_a_slice(self, query: dict[str, str]) -> None:
        index = labelled().xindexes["scenario"]
        assert isinstance(index.sel(query).dim_indexers["record"], slice)

    def test_other_rows_are_an_array_of_positions(self) -> None:
        found = labelled().xindexes["scenario"].sel({"branch": ""}).dim_indexers["record"]
        assert found.dtype == np.int64
        assert found.tolist() == [0, 5]

    @given(st.data())
    def test_it_equals_a_boolean_mask(self, data: st.DataObject) -> None:
        labels = st.integers(0, 3)
        rows = data.draw(st.lists(st.tuples(labels, labels), min_size=1, max_size=12))
        first, second = (np.array(column) for column in zip(*rows, strict=True))
        index = Labels("row", {"first": first.astype(str), "second": second})
        ds = xr.Dataset({"x": ("row", np.arange(len(rows)))}, xr.Coordinates.from_xindex(index))
        asked = data.draw(st.lists(st.sampled_from(first.tolist()), unique=True))
        low, high = sorted((data.draw(labels), data.draw(labels)))
        mask = np.isin(first, asked) & (second >= low) & (second <= high)
        found = ds.sel(first=[str(label) for label in asked], second=slice(low, high))
        assert found.x.values.tolist() == np.flatnonzero(mask).tolist()

    def test_unknown_labels_are_named(self) -> None:
        with pytest.raises(KeyError, match="scenario: no row has the label 'z'; found 'base', 'x'"):
            labelled().sel(scenario="z")

    @pytest.mark.parametrize("options", [{"method": "nearest"}, {"tolerance": 1}])
    def test_labels_are_found_exactly(self, options: dict[str, Any]) -> None:
        with pytest.raises(
            Refused, match=r"record: found method=.* are found exactly; leave these"
        ):
            labelled().sel(sample=0, **options)

    def test_a_dataarray_of_labels_has_no_answer_of_its_shape(self) -> None:
        ds = labelled()
        with pytest.raises(Refused, match=r"a DataArray of shape \(6,\).*\.values\.ravel\(\)"):
            ds.sel(scenario=ds.scenario)
        assert ds.sel(scenario=ds.scenario[0]).sizes["record"] == 2
        assert ds.sel(sample=slice(ds["sample"][2], None)).sizes["record"] == 3


class TestLabelsUnderOtherOperations:
    @pytest.mark.parametrize(
        "rows", [slice(1, 4), slice(None, None, -1), [3, 1], [], SAMPLE == 1, np.array([-1, 0])]
    )
    def test_isel_keeps_the_index(self, rows: Any) -> None:
        ds = labelled().isel(record=rows)
        assert ds.scenario.values.tolist() == SCENARIO[rows].tolist()
        assert ds.xindexes["scenario"].to_pandas_index().tolist() == list(
            zip(SCENARIO[rows], BRANCH[rows], SAMPLE[rows], strict=True)
        )

    @pytest.mark.parametrize("rows", [2, xr.DataArray([2, 3], dims="point")])
    def test_isel_that_drops_the_dim_drops_the_index(self, rows: Any) -> None:
        ds = labelled().isel(record=rows)
        assert set(ds.xindexes) == {"layer"}
        assert ds.scenario.values.ravel()[0] == "x"

    @pytest.mark.parametrize("name", LABELS)
    def test_groupby(self, name: str) -> None:
        ds = labelled()
        means = ds.chunk(record=2).groupby(name).mean().activations
        for label in np.unique(ds[name].values):
            expected = ds.activations.values[ds[name].values == label].mean(axis=0)
            assert means.sel({name: label}).values.tolist() == expected.tolist()

    def test_rows_of_groups_return_to_their_places(self) -> None:
        ds = labelled()
        again = ds.groupby("branch").map(lambda group: group)
        xr.testing.assert_identical(again, ds)
        centered = ds.groupby("branch") - ds.groupby("branch").mean()
        assert centered.xindexes["scenario"].equals(ds.xindexes["scenario"])

    def test_arithmetic_of_equal_labels(self) -> None:
        ds = labelled()
        total = ds + 2 * ds.copy(deep=True)
        assert total.activations.equals(3 * ds.activations)
        assert isinstance(total.xindexes["scenario"], Labels)

    def test_rows_in_common_and_of_either(self) -> None:
        ds = labelled()
        head, tail = ds.isel(record=slice(0, 4)), ds.isel(record=slice(2, 6))
        xr.testing.assert_identical(head + tail, 2 * ds.isel(record=slice(2, 4)))
        padded, _ = xr.align(head, tail, join="outer")
        assert padded.scenario.values.tolist() == SCENARIO.tolist()
        assert np.isnan(padded.activations.values).all(axis=1).tolist() == [False] * 4 + [True] * 2
        xr.testing.assert_identical(ds.reindex_like(tail), tail)

    def test_scenarios_that_are_subtracted_name_what_compares_them(self) -> None:
        ds = labelled()
        with pytest.raises(Refused, match=r"or use contrast\(ds, pairs=\[\('x', 'base'\)\]\)$"):
            ds.sel(scenario="x") - ds.sel(scenario="base")
        with pytest.raises(Refused, match=r"drop_indexes\([^)]*\) on both$"):
            ds.sel(scenario="x", branch="m") - ds.sel(scenario="x", branch="n", sample=0)

    def test_rows_that_share_no_labels_are_not_dropped_in_silence(self) -> None:
        ds = labelled()
        matching, other = ds.sel(branch="m"), ds.sel(branch="n")
        with pytest.raises(Refused, match=r"share no row .*branch: 'm' and 'n'.* drop_indexes"):
            matching - other
        pairs = matching.drop_indexes(LABELS) - other.drop_indexes(LABELS)
        assert pairs.activations.values.tolist() == [[-4.0, -4.0], [-4.0, -4.0]]

    def test_aligning_to_the_nearest_label_is_refused(self) -> None:
        ds = labelled()
        with pytest.raises(Refused, match="record: found method='nearest'"):
            ds.reindex_like(ds.isel(record=[0]), method="nearest")

    def test_concat(self) -> None:
        ds = labelled()
        joined = xr.concat([ds.sel(scenario="y"), ds.sel(scenario="base")], dim="record")
        assert joined.sel(scenario="base").activations.equals(ds.sel(scenario="base").activations)
        xr.testing.assert_identical(joined, ds.isel(record=[5, 0, 1]))

    def test_concat_of_other_labels_or_along_another_dim_is_refused(self) -> None:
        ds = labelled()
        with pytest.raises(Refused, match=r"run: found labels .* along 'record'; .*drop_indexes"):
            xr.concat([ds, ds], dim="run", coords="all")
        with pytest.raises(Refused, match=r"record: found labels \['a'\] along 'record' to lay"):
            Labels.concat([Labels("record", {"b": [1]}), Labels("record", {"a": [1]})], "record")

    def test_roll_and_rename(self) -> None:
        ds = labelled()
        rolled = ds.roll(record=2, roll_coords=True)
        xr.testing.assert_identical(rolled, ds.isel(record=[4, 5, 0, 1, 2, 3]))
        renamed = ds.rename(record="row", scenario="condition")
        assert renamed.sel(condition="y").sizes["row"] == 1

    def test_labels_stay_in_memory(self) -> None:
        ds = labelled().chunk(record=2)
        assert [ds[name].chunks for name in LABELS] == [None] * 3
        lazy = labelled().drop_indexes(LABELS).chunk(record=2).set_xindex(LABELS, Labels)
        assert [lazy[name].chunks for name in LABELS] == [None] * 3

    def test_map_blocks_wants_the_index_dropped(self) -> None:
        ds = labelled()
        doubled = ds.chunk(record=2).drop_indexes(LABELS).map_blocks(lambda block: 2 * block)
        assert doubled.activations.values.tolist() == (2 * ds.activations).values.tolist()

    def test_variables_come_and_go(self) -> None:
        ds = labelled().assign(norm=lambda ds: ds.activations.sum("layer"))
        assert ds.drop_vars("activations").sel(scenario="y").norm.values.tolist() == [21.0]
        assert ds.norm.sel(scenario="y").values.tolist() == [21.0]
        assert "scenario" not in ds.drop_vars(LABELS).coords


BOTH = pytest.mark.parametrize(
    ("ds", "names", "index", "options", "query"),
    [
        (labelled(), LABELS, Labels, {}, {"scenario": "x"}),
        (ragged(), RAGGED, RaggedIndex, {"ragged_dim": "residue"}, {"structure": [17, 5]}),
    ],
    ids=["labels", "ragged"],
)


@BOTH
class TestBoth:
    def test_sel_computes_nothing(
        self, ds: xr.Dataset, names: Any, index: Any, options: Any, query: Any
    ) -> None:
        found = lazily(ds).sel(query)
        assert found.sizes == ds.sel(query).sizes
        with pytest.raises(AssertionError, match="a block was computed"):
            found.compute()

    def test_sel_is_the_same_for_any_chunks(
        self, ds: xr.Dataset, names: Any, index: Any, options: Any, query: Any
    ) -> None:
        for chunked in (ds.chunk(), ds.chunk(dict.fromkeys(ds.sizes, 3))):
            xr.testing.assert_identical(chunked.sel(query).compute(), ds.sel(query))

    def test_copies_and_pickles(
        self, ds: xr.Dataset, names: Any, index: Any, options: Any, query: Any
    ) -> None:
        for same in (ds.copy(), copy.deepcopy(ds), pickle.loads(pickle.dumps(ds))):
            xr.testing.assert_identical(same, ds)
            xr.testing.assert_identical(same.sel(query), ds.sel(query))

    def test_stored_and_opened(
        self, ds: xr.Dataset, names: Any, index: Any, options: Any, query: Any, tmp_path: Path
    ) -> None:
        ds.to_netcdf(tmp_path / "ds.nc", engine="h5netcdf")
        ds.to_zarr(tmp_path / "ds.zarr", zarr_format=2)
        for path, engine in (("ds.nc", "h5netcdf"), ("ds.zarr", "zarr")):
            with xr.open_dataset(tmp_path / path, engine=engine) as stored:
                xr.testing.assert_identical(stored.set_xindex(names, index, **options), ds)

    def test_reprs_are_short(
        self, ds: xr.Dataset, names: Any, index: Any, options: Any, query: Any
    ) -> None:
        dim = ds[names[0]].dims[0]
        assert f"{index.__name__}({dim})" in repr(ds)
        assert f"{index.__name__}({dim})" in ds._repr_html_()
        assert f"{index.__name__}({dim!r}, n_rows={ds.sizes[dim]}" in repr(ds.xindexes[names[0]])

    def test_unknown_options_and_other_dims_are_refused(
        self, ds: xr.Dataset, names: Any, index: Any, options: Any, query: Any
    ) -> None:
        bare = ds.drop_indexes(names)
        with pytest.raises(Refused, match=f"{index.__name__}: found options .*'colour': 1"):
            bare.set_xindex(names, index, colour=1)
        with pytest.raises(LayoutError, match=r"labels: found coords with the dims .* one dim"):
            bare.assign_coords(odd=("another", [1])).set_xindex([*names, "odd"], index, **options)
