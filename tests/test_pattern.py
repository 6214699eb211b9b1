"""Paths are made of patterns, and say what they were made of."""

from hypothesis import given
from hypothesis import strategies as st

from h5dask.pattern import fill, parse

NAMES = st.text(st.characters(exclude_characters="/", exclude_categories=("Cs",)), min_size=1)


@given(NAMES, st.integers(0, 10**18 - 1))
def test_a_filled_pattern_is_parsed_back(name: str, number: int) -> None:
    pattern = "a{b/{name}/x_{n:d}.y}"
    keys = {"name": name, "n": str(number)}
    path = fill(pattern, keys)
    assert path == f"a{{b/{name}/x_{number}.y}}"
    assert parse(pattern, path) == keys
