"""Structures as labels, and back: numbers, axes, grids, the flat form, joined files."""

import itertools
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import h5dask
from h5dask import layouts
from h5dask.check.structure import problems
from h5dask.contents import Contents
from h5dask.errors import LayoutError
from h5dask.grouping import arrange
from h5dask.groups import Groups
from h5dask.layout import Labels
from tests.files import LAYOUTS
from tests.layouts.reading import contents
from tests.layouts.reading import taken as taken_by
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
    held, owned_by = taken_by(groups, "sequence"), taken_by(groups, "residue")
    assert [len(rows) for rows in held] == groups.counts["sequence"].tolist()
    back = [order[row] for rows in held for row in rows]
    assert back == original
    assert groups.shapes["sequences"] == tuple(shapes[key] for key in sorted(kept, key=int))
    ends = np.cumsum(taken["row_size"])
    for rows, residues in zip(held, owned_by, strict=True):
        owned = [list(range(ends[r] - taken["row_size"][r], ends[r])) for r in rows]
        assert residues == [residue for part in owned for residue in part]


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
    assert taken_by(groups, "residue") == [[4, 5, 6], [0, 1, 2, 3]]


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


def told(path: Path, **shapes: Any) -> list[str]:
    """Return what is said of a file of structures of these shapes, or of these attributes."""
    with h5py.File(path, "w") as f:
        for name, (shape, attrs) in shapes.items():
            group = f.create_group(name)
            group["sequences"] = np.zeros(shape, np.int32)
            sizes = zip(("num_samples", "num_noise_levels", "sequence_length"), shape, strict=True)
            group.attrs.update({**dict(sizes), **attrs})
    found = h5dask.validate(path, notes=True)
    return [f"{one.level} {str(one).removeprefix(f'{path}: ')}" for one in found]


def test_numbers_that_are_not_those_of_the_names(tmp_path: Path) -> None:
    swapped = {f"structure_{i}": ((2, 1, 9), {"structure_index": 1 - i}) for i in range(2)}
    first, second = told(tmp_path / "a.h5", **swapped)
    assert first.startswith("note /structure_0: attribute 'structure_index' is 1; expected 0, as")
    assert second.startswith("note /structure_1: attribute 'structure_index' is 0; expected 1, as")


def test_groups_of_one_number(tmp_path: Path) -> None:
    two = {f"structure_{key}": ((2, 1, 9), {"structure_index": int(key)}) for key in ("0", "00")}
    found = told(tmp_path / "a.h5", **two)
    assert "problem /structure_00: a name of the same number as /structure_0" in " ".join(found)


def test_one_name_of_several_structures(tmp_path: Path) -> None:
    names = {"structure_id": "1ABC"}
    alike = {f"structure_{i}": ((2, 1, 9), {"structure_index": i, **names}) for i in range(2)}
    (found,) = told(tmp_path / "a.h5", **alike)
    assert found.startswith("note /structure_1: attribute 'structure_id' is '1ABC'; expected a nam")


@pytest.mark.parametrize(("shape", "what"), [((0, 1, 9), "samples"), ((2, 1, 0), "residues")])
def test_structures_without_anything(shape: Shape, what: str, tmp_path: Path) -> None:
    shapes = {"structure_0": ((2, 1, 9), {}), "structure_1": (shape, {})}
    both = {n: (s, {"structure_index": i}) for i, (n, (s, _)) in enumerate(shapes.items())}
    (found,) = told(tmp_path / "a.h5", **both)
    assert found.startswith(f"problem /structure_1: no {what}: sequences of shape {shape!r}")


def test_a_group_that_is_no_structure(tmp_path: Path) -> None:
    told(tmp_path / "a.h5", structure_0=((2, 1, 9), {"structure_index": 0}))
    with h5py.File(tmp_path / "a.h5", "a") as f:
        f.create_group("structure_meta")
    (found,) = h5dask.validate(tmp_path / "a.h5", notes=True)
    assert "/structure_meta: a group that is not a structure" in str(found)


@pytest.mark.parametrize(
    ("width", "said"),
    [
        ((2, 1, 8, 21), r"shape \(2, 1, 8, 21\); expected \(2, 1, 9, 21\), as"),
        ((2, 1, 9, 20), "20 along aa, shape .*; expected 21 along this axis"),
    ],
)
def test_logits_of_another_shape_are_told_once(width: Shape, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    told(path, **{f"structure_{i}": ((2, 1, 9), {"structure_index": i}) for i in range(2)})
    with h5py.File(path, "a") as f:
        f["structure_0/logits"] = np.zeros(width, np.float32)
        f["structure_1/logits"] = np.zeros((2, 1, 9, 21), np.float32)
    (found,) = h5dask.validate(path, values=True)
    assert re.search(rf"/structure_0/logits: {said}", str(found))
    with pytest.raises(LayoutError, match=r"/structure_0/logits: .*(8|20)"):
        h5dask.open_dataset(path)
