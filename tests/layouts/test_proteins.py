"""Structures as labels, and back: numbers, axes, grids, the flat form, joined files."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5dask import layouts
from h5dask.check.structure import problems
from h5dask.contents import Contents
from h5dask.errors import LayoutError
from h5dask.grouping import arrange
from h5dask.groups import Groups
from h5dask.layout import Labels
from tests.files import LAYOUTS
from tests.layouts.reading import contents
from tests.made import contents as made
from tests.made import text

LAYOUT = layouts.get("proteins")
AXES = ("structure", "sample", "noise", "temperature")
Shape = tuple[int, ...]


def file(shapes: dict[str, Shape], attrs: dict[str, dict[str, Any]] | None = None) -> Contents:
    """Return a file of groups by key with these shapes of `sequences`, and logits to fit."""
    arrays: dict[str, tuple[Shape, str]] = {}
    for key, shape in shapes.items():
        group = f"structure_{key}/" if key else ""
        arrays[f"{group}sequences"] = shape, "<i4"
        arrays[f"{group}logits"] = (*shape, 21), "<f4"
    return made(arrays, attrs)


def labels_of(found: Contents) -> Labels:
    return LAYOUT.labels(arrange(LAYOUT, found).groups, found)


def grid(number: int, *sizes: int, length: int = 2) -> list[tuple[int, ...]]:
    """Return the labels of a structure's sequences: number, sample, noise, temperature, length."""
    cells = itertools.product(*(range(size) for size in sizes))
    return [(number, *cell, length) for cell in cells]


def labels(*parts: list[tuple[int, ...]]) -> Labels:
    columns = zip(*(row for part in parts for row in part), strict=True)
    return {
        name: np.array(column, np.int32)
        for name, column in zip((*AXES, "row_size"), columns, strict=True)
    }


def keys(groups: Groups) -> list[str]:
    return [key for (key,) in groups.keys]


def test_sequences_come_in_c_order() -> None:
    found = labels_of(file({"3": (2, 1, 3, 7), "1": (1, 2, 5)}))
    assert found["structure"].tolist() == [1] * 2 + [3] * 6
    assert found["sample"].tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    assert found["noise"].tolist() == [0, 1, 0, 0, 0, 0, 0, 0]
    assert found["temperature"].tolist() == [0, 0, 0, 1, 2, 0, 1, 2]
    assert found["row_size"].tolist() == [5] * 2 + [7] * 6
    assert {column.dtype for column in found.values()} == {np.dtype(np.int32)}


@pytest.mark.parametrize(
    ("shape", "root", "group", "varying"),
    [
        ((3, 4), {}, {}, "sample"),
        ((1, 3, 4), {}, {}, "noise"),
        ((1, 3, 4), {}, {"num_temperatures": 3}, "noise"),
        ((1, 3, 4), {"schema_version": "sampling_averaged_v1"}, {}, "noise"),
        (
            (1, 3, 4),
            {"schema_version": "sampling_averaged_v1"},
            {"num_temperatures": 3},
            "temperature",
        ),
        ((1, 3, 4), {}, {"num_temperatures": 3, "averaged_encodings": True}, "temperature"),
        ((1, 3, 4), {}, {"num_temperatures": 3, "averaged_encodings": False}, "noise"),
        ((1, 1, 3, 4), {}, {"num_temperatures": 3}, "temperature"),
    ],
)
def test_attributes_tell_the_axes_apart(
    shape: Shape, root: dict[str, Any], group: dict[str, Any], varying: str
) -> None:
    found = file({"0": shape}, {"": root, "structure_0": group})
    given = labels_of(found)
    assert [axis for axis in AXES if given[axis].any()] == [varying]
    groups = LAYOUT.groups(given, found)
    assert groups.shapes["sequences"] == (shape,)
    counts = LAYOUT.derive(groups, {}, {})
    assert counts["structure_0", "num_temperatures", ""] == (3 if varying == "temperature" else 1)


@pytest.mark.parametrize(
    ("indices", "numbers"),
    [
        ({"2": 17, "5": 3}, [17, 3]),
        ({"2": 17}, [17, 5]),
        ({"2": 5}, [2, 5]),
        ({"2": 4, "5": 4}, [2, 5]),
        ({"2": -1, "5": 7}, [2, 7]),
        ({"2": 2**70}, [2, 5]),
        ({"2": "x"}, [2, 5]),
        ({"2": 2**40}, [2**40, 5]),
    ],
)
def test_structures_are_numbered_by_attribute_or_name(
    indices: dict[str, Any], numbers: list[int]
) -> None:
    attrs = {f"structure_{key}": {"structure_index": value} for key, value in indices.items()}
    found = file({"5": (1, 1, 4), "2": (1, 1, 4)}, attrs)
    given = labels_of(found)
    assert given["structure"].tolist() == numbers
    groups = LAYOUT.groups(given, found)
    assert keys(groups) == ["2", "5"]
    assert list(groups.numbers) == numbers


def test_names_equal_as_numbers_are_numbered_by_order() -> None:
    assert labels_of(file({"01": (1, 4), "1": (1, 4)}))["structure"].tolist() == [0, 1]


def test_structure_ids_are_labels_where_some_have_one() -> None:
    found = file({"0": (1, 4), "1": (2, 4)}, {"structure_1": {"structure_id": "1ABC_A"}})
    assert labels_of(found)["structure_id"].tolist() == ["", "1ABC_A", "1ABC_A"]


@pytest.mark.parametrize("shape", [(3, 2, 4, 5), (3, 2, 5), (3, 5)])
def test_the_flat_form_has_a_structure_a_row(shape: Shape) -> None:
    found = file({"": shape})
    given = labels_of(found)
    assert given["structure"].tolist() == np.repeat(range(3), len(given["sample"]) // 3).tolist()
    groups = LAYOUT.groups(given, found)
    assert (keys(groups), groups.shapes["sequences"]) == ([""], (shape,))
    assert LAYOUT.derive(groups, {}, {}) == {}
    (subset,) = [{k: v[given["structure"] > 0] for k, v in given.items()}]
    assert LAYOUT.groups(subset, found).shapes["sequences"] == ((2, *shape[1:]),)


@pytest.mark.parametrize(
    "added", [grid(9, 2, 1, 1), grid(1, 3, 1, 1), grid(1, 2, 1, 1, length=3), grid(1, 2, 1, 2)]
)
def test_the_flat_form_migrates_to_groups_where_it_no_longer_fits(added: list[Any]) -> None:
    groups = LAYOUT.groups(labels(grid(0, 2, 1, 1), added), file({"": (2, 2, 1, 2)}))
    assert keys(groups) == ["0", str(added[0][0])]
    assert len(groups.shapes["sequences"][0]) == len(groups.shapes["sequences"][1])


SIZES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(0, 4))
GROUPS = st.dictionaries(
    st.integers(0, 20).map(str),
    st.one_of(SIZES, SIZES.map(lambda s: s[1:]), SIZES.map(lambda s: s[2:])),
    min_size=1,
    max_size=5,
)


@given(GROUPS, st.randoms(use_true_random=False))
def test_shuffled_sequences_find_their_place(shapes: dict[str, Shape], random: Any) -> None:
    found = file(shapes)
    whole = labels_of(found)
    kept = [key for key in shapes if random.random() < 0.7]
    order = [i for i, s in enumerate(whole["structure"].tolist()) if str(s) in kept]
    original = list(order)
    random.shuffle(order)
    taken = {name: column[order] for name, column in whole.items()}
    groups = LAYOUT.groups(taken, found)
    assert keys(groups) == sorted(kept, key=int)
    assert [len(rows) for rows in groups.rows["sequence"]] == groups.counts["sequence"].tolist()
    back = [order[row] for rows in groups.rows["sequence"] for row in rows.tolist()]
    assert back == original
    assert groups.shapes["sequences"] == tuple(shapes[key] for key in sorted(kept, key=int))
    ends = np.cumsum(taken["row_size"])
    for rows, residues in zip(groups.rows["sequence"], groups.rows["residue"], strict=True):
        owned = [list(range(ends[r] - taken["row_size"][r], ends[r])) for r in rows]
        assert residues.tolist() == [residue for part in owned for residue in part]


def test_groups_keep_their_names_and_new_ones_get_free_ones() -> None:
    found = file({"3": (1, 2, 4)}, {"structure_3": {"structure_index": 17}})
    groups = LAYOUT.groups(labels(grid(3, 1, 2, 1), grid(17, 1, 2, 1), grid(4, 1, 2, 1)), found)
    assert groups.keys == (("3",), ("18",), ("4",))
    assert groups.numbers == (17, 3, 4)
    derived = LAYOUT.derive(groups, {}, {})
    assert derived["structure_3", "structure_index", ""] == 17
    assert derived["structure_18", "structure_index", ""] == 3


@pytest.mark.parametrize(
    ("form", "parts", "shapes"),
    [
        (None, [grid(0, 2, 1, 1)], [(2, 1, 2)]),
        (None, [grid(0, 2, 3, 1), grid(1, 1, 1, 2)], [(2, 3, 1, 2), (1, 1, 2, 2)]),
        ({"0": (5, 2)}, [grid(0, 3, 1, 1), grid(1, 2, 1, 1)], [(3, 2), (2, 2)]),
        ({"0": (5, 2)}, [grid(0, 3, 2, 1)], [(3, 2, 2)]),
        ({"0": (5, 2)}, [grid(0, 3, 1, 1), grid(1, 2, 2, 1)], [(3, 2), (2, 2, 2)]),
        ({"0": (5, 1, 1, 2)}, [grid(7, 3, 2, 1)], [(3, 2, 1, 2)]),
    ],
)
def test_ranks_are_those_of_the_form_where_they_fit(
    form: dict[str, Shape] | None, parts: list[Any], shapes: list[Shape]
) -> None:
    groups = LAYOUT.groups(labels(*parts), file(form) if form else None)
    assert list(groups.shapes["sequences"]) == shapes
    assert groups.shapes["pseudo_perplexity"] == tuple(shape[:-1] for shape in shapes)


def test_labels_that_are_absent_have_one_value_and_samples_count() -> None:
    given = {"structure": np.array([1, 1, 0]), "row_size": np.array([2, 2, 3])}
    groups = LAYOUT.groups(given, None)
    assert groups.shapes["sequences"] == ((1, 1, 3), (2, 1, 2))
    assert [rows.tolist() for rows in groups.rows["residue"]] == [[4, 5, 6], [0, 1, 2, 3]]


def test_labels_with_gaps_are_grids_all_the_same() -> None:
    given = labels([(0, s, n, 0, 2) for s in (3, 9) for n in (1, 4)])
    assert LAYOUT.groups(given, None).shapes["sequences"] == ((2, 2, 2),)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            labels(grid(5, 2, 2, 1)[:-1]),
            "Dataset: structure 5: 3 sequences, expected each of .* 2 x 2 x 1",
        ),
        (labels(grid(5, 2, 1, 1), grid(5, 1, 1, 1)), "structure 5: 3 sequences"),
        (
            labels(grid(5, 2, 1, 1, length=3), [(5, 7, 0, 0, 4)]),
            "structure 5: sequences of 3 to 4 res",
        ),
        (labels(grid(-5, 1, 1, 1)), "structure -5: a negative number"),
        (labels(*(grid(i, 2, 2, 1)[1:] for i in range(9))), "; and 4 more"),
        ({"structure": np.zeros(1, int)}, r"found labels \['structure'\], without \['row_size'\]"),
    ],
)
def test_what_is_no_grid_is_refused_by_structure(given: Labels, said: str) -> None:
    with pytest.raises(LayoutError, match=said):
        LAYOUT.groups(given, None)


def test_no_sequences_are_no_groups() -> None:
    assert (
        LAYOUT.groups({name: np.zeros(0, np.int32) for name in (*AXES, "row_size")}, None).keys
        == ()
    )


def test_shapes_that_differ_within_a_group_keep_it_from_opening() -> None:
    found = made(
        {"structure_0/sequences": ((4, 2, 7), "<i4"), "structure_0/logits": ((2, 4, 7, 21), "<f4")}
    )
    with pytest.raises(LayoutError, match=r"f.h5: /structure_0/logits has shape \(2, 4, 7, 21\)"):
        labels_of(found)
    told = [str(problem) for problem in problems(LAYOUT, found) if "/logits" in problem.where]
    assert told == [
        "f.h5: /structure_0/logits: shape (2, 4, 7, 21); expected (4, 2, 7, 21), as the group's "
        "sequences have it; rewrite it with the axes of the sequences"
    ]


def test_perplexities_are_one_a_sequence() -> None:
    arrays = {
        "structure_0/sequences": ((4, 2, 7), "<i4"),
        "structure_0/pseudo_perplexity": ((2, 4), "<f4"),
    }
    told = problems(LAYOUT, made(arrays))
    assert any(p.where.endswith("pseudo_perplexity") and "(4, 2)" in p.expected for p in told)


@pytest.mark.parametrize("shape", [(2**40, 1, 4), (1, 1, 2**40), (2**40, 0, 4)])
def test_more_sequences_than_labels_are_held_for_are_refused(shape: Shape) -> None:
    for key in ("0", ""):
        with pytest.raises(LayoutError, match="labels are held for at most 2147483647"):
            labels_of(file({key: shape}))


def test_the_flat_form_beside_groups_is_a_problem() -> None:
    told = problems(LAYOUT, file({"": (2, 3), "0": (1, 3)}))
    assert any(problem.found == "the flat form beside groups of structures" for problem in told)


def test_files_that_number_structures_alike_are_renumbered() -> None:
    a, b = labels(grid(7, 1, 1, 1), grid(3, 1, 2, 1)), labels(grid(3, 1, 1, 1))
    one, two = LAYOUT.join([a, {**b, "structure_id": text(["x"])}])
    assert one["structure"].tolist() == [0, 1, 1]
    assert one["source_structure"].tolist() == [7, 3, 3]
    assert two["structure"].tolist() == [2]
    assert two["source_structure"].tolist() == [3]
    assert one["structure_id"].tolist() == ["", "", ""]


def test_files_of_other_numbers_keep_them() -> None:
    parts = [labels(grid(7, 1, 1, 1)), labels(grid(3, 1, 1, 1))]
    assert [part["structure"].tolist() for part in LAYOUT.join(parts)] == [[7], [3]]
    joined = LAYOUT.join(parts)
    assert [part["source_structure"].tolist() for part in joined] == [[7], [3]]
    assert LAYOUT.join([]) == []


@pytest.mark.parametrize("key", LAYOUTS["proteins"].UNEQUAL)
def test_structures_may_differ_in_rank_and_logits(key: str, tmp_path: Path) -> None:
    LAYOUTS["proteins"].UNEQUAL[key].write(tmp_path / "f.h5")
    found = contents(tmp_path / "f.h5")
    arrangement = arrange(LAYOUT, found)
    assert arrangement.misfits == ()
    groups = LAYOUT.groups(labels_of(found), found)
    for key_, shape in zip(keys(groups), groups.shapes["sequences"], strict=True):
        assert found.shape(f"structure_{key_}/sequences") == shape


def test_the_index_cuts_sequences_and_residues_together() -> None:
    ds = LAYOUT.example(np.random.default_rng(0))
    assert ds.sel(structure=7).sizes == {"residue": 24, "aa": 21, "sequence": 4}
    assert "".join(ds.aa.values) == "ACDEFGHIKLMNPQRSTVWYX"
