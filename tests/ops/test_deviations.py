"""Conventions: what they give, how far float32 may be off, and which one stored values follow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from h5dask.layouts import _distances
from h5dask.ops.deviations import (
    APART,
    CONVENTIONS,
    COSINE,
    EUCLIDEAN,
    FROM_ONE,
    NEGATIVE,
    PRODUCT,
    ROUNDING,
    SQUARED,
    Pairs,
    expected,
    followed,
)
from h5dask.ops.metrics import METRICS, metric_of

F = np.float32


def pairs(query: NDArray[Any], base: NDArray[Any]) -> Pairs:
    """Return the sums of all pairs."""
    q, x = query.astype("f8")[:, None], base.astype("f8")[None]
    return Pairs(
        squares=((q - x) ** 2).sum(-1),
        products=(q * x).sum(-1),
        sizes=np.broadcast_to((x * x).sum(-1), (len(query), len(base))),
        own=(q * q).sum(-1),
        n_features=base.shape[1],
        is_whole=base.dtype.kind == "i",
    )


def in_float32(query: NDArray[Any], base: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Compute each convention in float32, term after term."""
    shape = len(query), len(base)
    squares, products = np.zeros(shape, F), np.zeros(shape, F)
    own, sizes = np.zeros(len(query), F), np.zeros(len(base), F)
    for q, x in zip(query.astype(F).T, base.astype(F).T, strict=True):
        squares += (q[:, None] - x) ** 2
        products += q[:, None] * x
        own += q * q
        sizes += x * x
    cosines = products / (np.sqrt(own)[:, None] * np.sqrt(sizes))
    return {
        "euclidean": np.sqrt(squares),
        "squared euclidean": squares,
        "1 - a.b": F(1) - products,
        "-a.b": -products,
        "a.b": products,
        "1 - cos": F(1) - cosines,
        "cos": cosines,
    }


def drawn(seed: int, n_features: int, scale: float, offset: float) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((30, n_features)) * scale + offset
    query = base[:6] + rng.standard_normal((6, n_features)) * scale * 10.0 ** rng.integers(-8, 1)
    return query.astype(F), base.astype(F)


@given(
    seed=st.integers(0, 99),
    n_features=st.integers(1, 60),
    scale=st.floats(-25, 8),
    offset=st.sampled_from([0.0, 1.0, 1e4]),
)
def test_what_float32_gives_lies_within_the_slack(
    seed: int, n_features: int, scale: float, offset: float
) -> None:
    query, base = drawn(seed, n_features, 10.0**scale, offset)
    exact = pairs(query, base)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = in_float32(query, base)
    short = (APART, COSINE) if scale < -8 else ()  # float32 has no squares of such lengths
    for one in (one for one in CONVENTIONS if one not in short):
        off = np.abs(found[one.name].astype("f8") - one.value(exact))
        assert (off <= one.slack(exact, ROUNDING)).all(), one.name


@given(seed=st.integers(0, 99), n_features=st.integers(1, 400))
def test_whole_numbers_are_off_by_the_rounding_of_the_distance_alone(
    seed: int, n_features: int
) -> None:
    rng = np.random.default_rng(seed)
    query, base = (rng.integers(-128, 128, (n, n_features)).astype("i1") for n in (5, 40))
    exact = pairs(query, base)
    for one in (EUCLIDEAN, SQUARED, NEGATIVE):
        stored = one.value(exact).astype(F).astype("f8")
        off, slack = np.abs(stored - one.value(exact)), one.slack(exact, ROUNDING)
        assert (off <= slack).all()
        assert (slack <= 5 * ROUNDING * np.abs(stored) + 1e-300).all()


@pytest.mark.parametrize("followed_one", CONVENTIONS, ids=lambda one: one.name)
@pytest.mark.parametrize("wanted", [EUCLIDEAN, FROM_ONE, NEGATIVE, APART], ids=lambda one: one.name)
def test_the_convention_is_found_though_some_distances_are_wrong(
    followed_one: Any, wanted: Any
) -> None:
    query, base = drawn(1, 20, 1.0, 0.3)
    exact = pairs(query, base)
    stored = in_float32(query, base)[followed_one.name].astype("f8")
    stored[:, ::3] += 0.5
    stored[:, 1] = np.nan
    assert followed(stored, exact, wanted) is followed_one


def test_of_unit_vectors_the_wanted_one_is_found() -> None:
    query, base = drawn(1, 20, 1.0, 0.3)
    query, base = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, base))
    exact = pairs(query, base)
    for name in ("1 - a.b", "1 - cos"):
        stored = in_float32(query, base)[name].astype("f8")
        assert followed(stored, exact, FROM_ONE) is FROM_ONE
        assert followed(stored, exact, APART) is APART
        assert followed(1 - stored, exact, APART) in (PRODUCT, COSINE)


def test_what_follows_none_is_unknown() -> None:
    query, base = drawn(1, 20, 1.0, 0.3)
    exact = pairs(query, base)
    assert followed(np.full(exact.squares.shape, 3.21), exact, EUCLIDEAN) is None
    assert followed(np.full(exact.squares.shape, np.nan), exact, EUCLIDEAN) is None


def test_those_that_are_expected_are_the_layouts_own() -> None:
    rng = np.random.default_rng(0)
    for dtype in ("f4", "i1"):
        query, base = (rng.integers(1, 99, (3, 5)).astype(dtype) for _ in range(2))
        q, x = query.astype("f8")[:, None], base.astype("f8")[None]
        for name in METRICS:
            layouts_own = _distances.convention(name, np.dtype(dtype))
            assert layouts_own is not None
            one = expected(metric_of(name), is_whole=dtype == "i1")
            np.testing.assert_allclose(
                one.value(pairs(query, base)), _distances.CONVENTIONS[layouts_own](q, x), atol=1e-12
            )
