"""How datasets make up variables: order, lanes, and everything that doesn't fit."""

from typing import Any

import numpy as np
import pytest

from h5dask.grouping import Arrangement, arrange
from h5dask.layout import ArraySpec, Layout
from h5dask.problem import Problem
from tests.made import Arrays, contents


def example(rng: np.random.Generator) -> Any:
    raise AssertionError(rng)


RECORDS = Layout(
    name="records",
    title="records by place and side",
    arrays=(
        ArraySpec(
            name="x",
            paths=("g/{place}/x_{layer:d}", "g/{place}/{side:left|right}/x_{layer:d}"),
            dims=("row", "layer", "column"),
            dtypes=("float32", "float16"),
            ragged="row",
        ),
        ArraySpec(
            name="text", paths=("g/{place}/text",), dims=("row",), dtypes=("str",), ragged="row"
        ),
        ArraySpec(
            name="extra",
            paths=("g/{place}/extra", "g/{place}/{side:left|right}/extra"),
            dims=("row",),
            dtypes=("int64",),
            ragged="row",
            required=False,
        ),
        ArraySpec(name="m_{field}", paths=("m/{field}",), dims=("column",), dtypes=()),
        ArraySpec(name="other", paths=("other",), dims=("column",), dtypes=("int8",)),
    ),
    marks=("g",),
    example=example,
)
FAMILY = Layout(
    name="family",
    title="numbered groups",
    arrays=(
        ArraySpec(
            name="s", paths=("s_{n:d}/s", "s"), dims=("item",), dtypes=("int32",), ragged="item",
            ranks=(1, 2, 3),
        ),
        ArraySpec(
            name="l", paths=("s_{n:d}/l", "l"), dims=("item", "letter"), dtypes=("float32",),
            ragged="item", required=False, ranks=(2, 3, 4),
        ),
    ),
    marks=("s_{n:d}",),
    sizes={"letter": 3},
    example=example,
)  # fmt: skip
ROWS = {"g/b/x_10": ((4, 3), "<f4"), "g/b/x_9": ((4, 3), "<f4"), "g/b/text": ((4,), "str")}


def arranged(arrays: Arrays, layout: Layout = RECORDS) -> Arrangement:
    return arrange(layout, contents(arrays))


def misfits(arrays: Arrays, layout: Layout = RECORDS) -> list[str]:
    """Return each misfit's place and fact."""
    return [f"{misfit.where} {misfit.found}" for misfit in arranged(arrays, layout).misfits]


def test_lanes_are_ordered_as_numbers_and_groups_as_listed() -> None:
    found = arranged({**ROWS, "g/a/x_9": ((2, 3), "<f4"), "g/a/x_10": ((2, 3), "<f4")})
    x = found.variables[0]
    assert x.lanes == (("9",), ("10",))
    assert found.groups.keys == (("b", ""), ("a", ""))
    assert x.paths == (("g/b/x_9", "g/a/x_9"), ("g/b/x_10", "g/a/x_10"))
    assert found.sizes == {"row": 6, "layer": 2, "column": 3}


def test_choices_come_as_declared_and_share_the_coarser_variable() -> None:
    arrays = {f"g/a/{side}/x_1": ((2, 3), "<f4") for side in ("right", "left")}
    found = arranged({**arrays, "g/a/text": ((2,), "str")})
    assert found.groups.keys == (("a", "left"), ("a", "right"))
    assert found.variables[1].paths == (("g/a/text", "g/a/text"),)
    assert found.misfits == ()


def test_numbered_groups_come_by_number_and_the_bare_path_first() -> None:
    arrays = {f"{group}s": ((2, 5), "<i4") for group in ("s_10/", "s_9/", "", "s_100/")}
    found = arranged(arrays, FAMILY)
    assert found.groups.keys == (("",), ("9",), ("10",), ("100",))
    assert found.groups.counts["item"].tolist() == [10] * 4
    assert found.groups.shapes["s"] == ((2, 5),) * 4


def test_leading_axes_lie_end_to_end() -> None:
    arrays = {"s_1/s": ((2, 3, 4), "<i4"), "s_1/l": ((2, 3, 4, 3), "<f4"), "s_2/s": ((5,), "<i4")}
    found = arranged(arrays, FAMILY)
    assert found.groups.counts["item"].tolist() == [24, 5]
    assert found.sizes == {"letter": 3, "item": 29}
    assert found.misfits == ()


def test_groups_without_rows_are_kept_and_fit_any_width() -> None:
    found = arranged({**ROWS, "g/b/left/x_9": ((0, 3), "<f4"), "g/b/left/x_10": ((0, 8), "<f2")})
    assert found.groups.counts["row"].tolist() == [4, 0]
    assert found.misfits == ()


def test_unknown_datasets_and_types_no_array_holds_are_set_apart() -> None:
    arrays = {**ROWS, "m/a": ((3,), "<f8"), "m/b": ((3,), "opaque"), "q/w": ((1,), "<f4")}
    found = arranged(arrays)
    assert found.unknown == ("m/b", "q/w")
    assert [v.name for v in found.variables] == ["x", "text", "m_a"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"g/b/x_9": ((4, 3, 1), "<f4")}, ["/g/b/x_9 rank 3, shape (4, 3, 1)"]),
        ({"g/b/x_9": ((4, 3), "str")}, ["/g/b/x_9 dtype 'str'"]),
        ({"g/b/x_9": ((3, 3), "<f4")}, ["/g/b/x_9 3 along row"]),
        ({"g/b/x_9": ((0, 3), "<f4")}, ["/g/b/x_9 0 along row"]),
        ({"g/b/text": ((0,), "str")}, ["/g/b/text 0 along row"]),
        ({"g/b/text": ((5,), "str")}, ["/g/b/text 5 along row"]),
        ({"g/b/extra": ((3,), "<i8")}, ["/g/b/extra 3 along row"]),
        ({"other": ((4,), "|i1")}, ["/other 4 along column"]),
        ({"other": ((), "|i1")}, ["/other rank 0, shape ()"]),
        ({"m/a": ((4,), "str"), "m/b": ((2,), "str")}, ["/m/a 4 along", "/m/b 2 along"]),
    ],
)
def test_arrays_that_do_not_fit_are_named(change: Arrays, said: list[str]) -> None:
    found = misfits({**ROWS, **change})
    assert len(found) == len(said)
    assert all(a.startswith(f"f.h5: {b}") for a, b in zip(found, said, strict=True))


def test_widths_and_types_that_differ_between_groups_are_named_with_the_ways_out() -> None:
    other = {"g/a/x_9": ((2, 5), "<f4"), "g/a/x_10": ((2, 3), "<f2"), "g/a/text": ((2,), "str")}
    found = arranged({**ROWS, **other}).misfits
    said = {misfit.where: (misfit.found, misfit.expected) for misfit in found}
    assert said["f.h5: /g/a/x_9"] == ("shape (2, 5)", "that of /g/b/x_10, (4, 3)") or said[
        "f.h5: /g/a/x_9"
    ] == ("shape (2, 5)", "that of /g/b/x_9, (4, 3)")
    assert said["f.h5: /g/a/x_10"][0] == "dtype '<f2'"
    assert all("group=..." in misfit.way_out for misfit in found)


def test_a_group_that_lacks_what_it_must_have_is_named() -> None:
    other = {"g/a/x_9": ((2, 3), "<f4"), "g/a/left/x_10": ((2, 3), "<f4")}
    assert misfits({**ROWS, **other}) == [
        "f.h5: /g/a no dataset 'left/x_9'",
        "f.h5: /g/a no dataset 'x_10'",
        "f.h5: /g/a no dataset 'text'",
    ]


def test_a_group_may_lack_what_is_optional() -> None:
    arrays = {
        **ROWS,
        "g/b/extra": ((4,), "<i8"),
        **{f"g/a/x_{i}": ((2, 3), "<f4") for i in (9, 10)},
    }
    found = arranged({**arrays, "g/a/text": ((2,), "str")})
    assert found.misfits == ()
    assert found.variables[2].paths == (("g/b/extra", None),)


def test_two_datasets_for_the_same_rows_are_named() -> None:
    spec = ArraySpec(name="v", paths=("a/{g}", "b/{g}"), dims=("r",), dtypes=("int8",), ragged="r")
    layout = Layout(name="two", title="", arrays=(spec,), marks=("a",), example=example)
    arrays = {"a/x": ((2,), "|i1"), "b/x": ((2,), "|i1")}
    assert misfits(arrays, layout) == ["f.h5: /b/x a second form of /a/x"]


def test_fixed_sizes_hold() -> None:
    arrays = {"s_1/s": ((5,), "<i4"), "s_1/l": ((5, 4), "<f4")}
    assert misfits(arrays, FAMILY) == ["f.h5: /s_1/l 4 along letter, shape (5, 4)"]


def test_a_declared_size_beyond_counting_is_described() -> None:
    found = arranged({"s_1/s": ((2**40, 2**40), "<i4"), "s_2/s": ((2**60,), "<i4")}, FAMILY)
    assert found.sizes["item"] >= 2**60
    assert found.misfits == ()


def test_a_file_that_a_layout_refuses_has_one_misfit() -> None:
    refusal = Problem(where="f.h5", found="sets", expected="vectors")
    layout = Layout(
        name="picky",
        title="",
        arrays=RECORDS.arrays,
        marks=("g",),
        refuse=lambda found: refusal,
        example=example,
    )
    found = arrange(layout, contents({**ROWS, "other": ((4,), "|i1")}))
    assert (found.misfits, found.variables) == ((refusal,), ())
