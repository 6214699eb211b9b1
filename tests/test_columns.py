"""Columns of labels: what is found, what an error says, and what is kept."""

import copy
import pickle
import re

import numpy as np
import pytest

from h5dask.columns import Column, Table
from h5dask.errors import LayoutError, Refused


def test_labels_of_fixed_width_become_objects_that_concat_does_not_cut() -> None:
    table = Table("row", {"name": np.array(["a"])}).append([Table("row", {"name": ["longer"]})])
    assert table["name"].values.tolist() == ["a", "longer"]
    assert table["name"].values.dtype == object


def test_labels_cannot_be_changed_behind_the_column() -> None:
    mine = np.array([1, 2])
    column = Column(mine)
    with pytest.raises(ValueError, match="read-only"):
        column.values[0] = 9
    mine[0] = 1  # the caller's own array stays writeable
    assert copy.deepcopy(column) is column


def test_codes_are_small_and_not_pickled() -> None:
    column = Column(np.array(["a", "b", "a"], dtype=object))
    plain = pickle.dumps(column)
    assert column.codes.dtype == np.uint8
    assert column.codes.tolist() == [0, 1, 0]
    assert column.labels.tolist() == ["a", "b"]
    assert pickle.dumps(column) == plain
    assert pickle.loads(plain).equals(column)


@pytest.mark.parametrize(
    ("labels", "query", "expected"),
    [
        (np.array([3, 1, 3], np.int32), 3, [True, False, True]),
        (np.array([3, 1, 3], np.int32), np.int64(3), [True, False, True]),
        (np.array([3, 1, 3], np.uint8), [1.0], [False, True, False]),
        (np.array([0.1, 0.2], np.float32), 0.1, [True, False]),
        (np.array([0.1, 0.2], np.float32), slice(None, np.float64(0.1)), [True, False]),
        (np.array([np.nan, 1.0]), np.nan, [True, False]),
        (np.array(["a", "b"], object), np.str_("b"), [False, True]),
        (np.array(["a", "b"], object), ("b", "a", "b"), [True, True]),
        (np.array(["a", "c"], object), slice("b", None), [False, True]),
        (np.array([b"a", b"b"]), b"b", [False, True]),
        (np.array([True, False]), True, [True, False]),
        (np.array(["a", 1], object), [1, "a"], [True, True]),
        (np.array([5, 6]), [], [False, False]),
        (np.array([], object), slice("a", "b"), []),
    ],
)
def test_matches(labels: np.ndarray, query: object, expected: list[bool]) -> None:
    assert Column(labels).matches("name", query).tolist() == expected


@pytest.mark.parametrize(
    ("labels", "query", "message"),
    [
        (["a", "b"], "c", "name: no row has the label 'c'; found 'a', 'b'"),
        (["a", "b"], ["c", "a", "d"], "name: no row has the label 'c', 'd'; found 'a', 'b'"),
        ([1, 2], "1", "name: no row has the label '1'; found 1, 2"),
        ([], 1, "name: no row has the label 1; found no labels"),
        (range(30), 99, "found 0, 1, .*, 18, 19, … (30 labels)"),
    ],
)
def test_unknown_labels_are_named_beside_the_known(
    labels: list[object], query: object, message: str
) -> None:
    pattern = ".*".join(re.escape(part) for part in message.split(".*"))
    with pytest.raises(KeyError, match=pattern):
        Column(np.array(labels, dtype=object)).matches("name", query)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (slice(0, 4, 2), "name: a slice of labels has no step, found 2; .* isel"),
        (slice("a", None), "name: 'a' to None has no order with labels such as 3; give bounds"),
        ([[1, 2]], r"name: found a list of shape \(1, 2\), but a label may have many rows"),
    ],
)
def test_queries_without_an_answer_are_refused(query: object, message: str) -> None:
    with pytest.raises(Refused, match=message):
        Column([3, 4]).matches("name", query)


def test_bounds_of_another_kind_are_refused() -> None:
    with pytest.raises(Refused, match=r"name: 'a' to None has no order with labels such as 0\.5"):
        Column([0.5]).matches("name", slice("a", None))


@pytest.mark.parametrize("columns", [{}, {"a": 1}, {"a": [[1]]}, {"a": [1], "b": [1, 2]}])
def test_columns_of_other_shapes_are_refused(columns: dict[str, object]) -> None:
    with pytest.raises(LayoutError, match=r"row: found labels of the shapes .*; give at least one"):
        Table("row", columns)


def test_differing_names_what_is_not_in_both() -> None:
    mine = Table("row", {"same": [1, 2], "other": [1, 2], "only": [1, 2]})
    theirs = Table("row", {"other": [1, 3], "same": np.array([1, 2], np.int8)})
    assert mine.differing(theirs) == ["other", "only"]
    assert theirs.differing(mine) == ["other", "only"]
    assert Table("row", {"x": [np.nan]}).differing(Table("row", {"x": [np.nan]})) == []


def test_rows_are_found_by_all_their_labels_whatever_the_order_of_columns() -> None:
    mine = Table("row", {"a": ["x", "x", "y"], "b": [1, 2, 1]})
    theirs = Table("row", {"b": [1, 2, 2], "a": ["y", "y", "x"]})
    assert mine.find(theirs).tolist() == [2, -1, 1]


def test_rows_labelled_alike_cannot_be_found() -> None:
    twice, once = Table("row", {"a": [1, 1]}), Table("row", {"a": [2]})
    with pytest.raises(Refused, match=r"differ, and some rows .* \(a: 1 and 2\); .*drop_indexes"):
        twice.find(once)


def test_levels_are_the_rows() -> None:
    levels = Table("row", {"a": ["x", "y", "x"], "b": [2, 1, 2]}).levels()
    assert levels.tolist() == [("x", 2), ("y", 1), ("x", 2)]
    assert list(levels.names) == ["a", "b"]
