"""The consumer's limits are inclusive, and its words are ours."""

import pytest

from h5dask import layouts
from h5dask.check.structure import problems
from tests.made import contents

LAYOUT = layouts.get("episodes")
GOOD = {"embeddings": ((10, 4), "<f4"), "episode_ids": ((10,), "str")}


def said(
    arrays: dict[str, tuple[tuple[int, ...], str]], nbytes: int = 0, **more: object
) -> list[str]:
    found = contents(arrays, **more)  # type: ignore[arg-type]
    return [f"{p.level[0]} {p}" for p in problems(LAYOUT, found, nbytes=nbytes)]


@pytest.mark.parametrize(
    ("shape", "nbytes", "words"),
    [
        ((200_000, 2_048), 100 * 1024 * 1024, []),
        ((200_001, 2_048), 0, ["Too many episodes: 200001 > 200000"]),
        ((200_000, 2_049), 0, ["Embedding dimension too large: 2049 > 2048"]),
        ((2, 2), 100 * 1024 * 1024 + 1, ["File too large. Maximum size is 100MB"]),
        ((200_001, 2_049), 2**40, ["Too many", "too large: 2049", "File too large"]),
    ],
)
def test_limits_are_inclusive(shape: tuple[int, int], nbytes: int, words: list[str]) -> None:
    told = said({"embeddings": (shape, "<f4"), "episode_ids": (shape[:1], "str")}, nbytes)
    assert len(told) == len(words)
    assert all(word in line for word, line in zip(words, told, strict=True))
    assert all(line.startswith("p f.h5: ") for line in told)


def test_missing_embeddings_are_one_line_that_names_the_newer_consumers() -> None:
    (line,) = said({"episode_ids": ((10,), "str")})
    assert "no dataset 'embeddings'" in line
    assert "newer consumers take such a file as metadata only" in line


@pytest.mark.parametrize(
    ("field", "dtype", "expected"),
    [
        ("success", "|b1", None),
        ("success", "|i1", "bool"),
        ("episode_length", ">i8", None),
        ("episode_length", "<f4", "int32 or int64"),
        ("task", "str", None),
        ("task", "<i8", "str"),
        ("dataset", "<i8", "str"),
        ("robot_id", "<u2", None),
        ("waypoints", "vlen <i4", None),
    ],
)
def test_fields_may_have_any_type_and_known_ones_a_note(
    field: str, dtype: str, expected: str | None
) -> None:
    told = said({**GOOD, f"metadata/{field}": ((10,), dtype)})
    assert len(told) == (expected is not None)
    assert all(line.startswith("n ") and f"expected {expected};" in line for line in told)


def test_fields_no_array_can_hold_are_carried_with_a_note() -> None:
    (line,) = said({**GOOD, "metadata/pose": ((10,), "compound")})
    assert line.startswith("n f.h5: /metadata/pose: unknown dataset 'pose'")


def test_pictures_as_a_group_or_beside_embeddings_are_notes() -> None:
    (line,) = said(GOOD, groups=["gifs"])
    assert line.startswith("n f.h5: /gifs: a group 'gifs'")
    (line,) = said({**GOOD, "thumbnails": ((10,), "vlen |u1")})
    assert line.startswith("n f.h5: /thumbnails: thumbnails beside embeddings")
    assert said({**GOOD, "gifs": ((10,), "vlen |u1")}) == []


def test_pictures_must_be_bytes_one_an_episode() -> None:
    (line,) = said({**GOOD, "gifs": ((10,), "<u1")})
    assert "dtype '<u1'; expected bytes" in line
    (line,) = said({**GOOD, "gifs": ((9,), "vlen |u1")})
    assert "9 along episode; expected 10 as in /embeddings" in line
