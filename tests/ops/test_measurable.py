"""Vectors that can't be searched are refused by their rows; all others pass."""

from __future__ import annotations

import re

import numpy as np
import pytest

from h5dask.errors import Refused
from h5dask.ops.measurable import measurable
from h5dask.ops.metrics import metric_of
from tests.ops.oracles import METRICS


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f2", ">f4", ">f8", "g", "i1", "u8", "?"])
def test_ordinary_vectors_pass(dtype: str, metric: str) -> None:
    values = np.arange(1, 13).reshape(4, 3).astype(dtype)
    measurable(values, 0, side="base", metric=metric_of(metric))
    measurable(values[:, ::2], 0, side="base", metric=metric_of(metric))
    measurable(values[:0], 0, side="base", metric=metric_of(metric))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("what", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f2", ">f8", "g"])
def test_what_is_not_finite(dtype: str, what: float, metric: str) -> None:
    values = np.ones((30, 3), dtype)
    values[[2, 29], 1] = what
    with pytest.raises(
        Refused,
        match=r"^query: found NaN or infinite values in rows 102, 129; expe"
        "cted finite numbers; leave those rows out, or compute them again$",
    ):
        measurable(values, 100, side="query", metric=metric_of(metric))


def test_five_rows_are_named() -> None:
    with pytest.raises(Refused, match="in rows 4, 5, 6, 7, 8 and 15 more of this block;"):
        measurable(np.full((20, 2), np.nan), 4, side="base", metric=metric_of("ip"))


# Fails: only native float64 is looked at.
@pytest.mark.parametrize("dtype", ["f8", ">f8", "g"])
def test_values_whose_squares_are_too_large(dtype: str) -> None:
    values = np.ones((5, 3), dtype)
    values[1, 2], values[3, 0] = 2.0**500, -(2.0**501)
    with pytest.raises(
        Refused, match=re.escape("base: found values above 2^500 in rows 3; expect")
    ):
        measurable(values, 0, side="base", metric=metric_of("ip"))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1"])
def test_vectors_without_a_direction(dtype: str) -> None:
    values = np.ones((5, 3), dtype)
    values[[1, 4]] = 0
    values[0] = [0, 0, np.finfo(dtype).smallest_subnormal if dtype in {"f2", "f4"} else 1]
    with pytest.raises(
        Refused,
        match=r"^base: found zero vectors in rows 11, 14; expected vectors "
        "with a direction, for 'angular';",
    ):
        measurable(values, 10, side="base", metric=metric_of("angular"))
    measurable(values, 10, side="base", metric=metric_of("euclidean"))


def test_all_that_is_wrong_is_said_at_once() -> None:
    values = np.ones((4, 2))
    values[0], values[1], values[2] = np.nan, 0, 1e200
    with pytest.raises(Refused, match="rows 0;") as raised:
        measurable(values, 0, side="base", metric=metric_of("angular"))
    lines = str(raised.value).split("\n")
    assert ["NaN" in lines[0], "2^500 in rows 2;" in lines[1], "zero" in lines[2]] == [True] * 3
    assert len(lines) == 3
