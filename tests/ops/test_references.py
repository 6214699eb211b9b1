"""Which reference is whose: by name, by number, and what is said where only the order is known."""

from __future__ import annotations

import warnings
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import xarray as xr

from h5dask.errors import Refused
from h5dask.fasta import read_fasta
from h5dask.indexes import RaggedIndex
from h5dask.ops.residues import profile

ALPHABET = "ACDEFGHIKLMNPQRSTVWYX"
WORDS = ("MKVL", "GHEA", "WWYY")
"""The one sequence of each structure."""


def structures(numbers: list[int], names: list[str] | None = None) -> xr.Dataset:
    """Return structures of these words, one sequence each."""
    rows: dict[str, Any] = dict.fromkeys(("sample", "noise", "temperature"), [0] * len(numbers))
    rows |= {"structure": numbers, "row_size": [4] * len(numbers)}
    if names is not None:
        rows["structure_id"] = np.array(names, object)
    index = RaggedIndex("sequence", "residue", None, rows)
    letters = [ALPHABET.index(one) for i in range(len(numbers)) for one in WORDS[i % 3]]
    ds = xr.Dataset({"sequences": ("residue", letters)}, xr.Coordinates.from_xindex(index))
    return ds.assign_coords(aa=list(ALPHABET))


def fasta(*records: tuple[str, str], names: dict[int, str] | None = None) -> xr.Dataset:
    text = "".join(f">{name}\n{word}\n" for name, word in records)
    return read_fasta(BytesIO(text.encode()), names=names)


def recovery(ds: xr.Dataset, reference: xr.Dataset) -> list[float]:
    """Return the share of each structure that is its reference's; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return list(profile(ds, reference=reference).recovery.values)


TURNED = (("6MRR", WORDS[1]), ("5L33", WORDS[0]))
"""The references of two structures, the second one's first."""


def test_an_order_that_may_be_wrong_is_told() -> None:
    told = (
        r"reference: the structures have no names, so '6MRR' is taken for structure 0, '5L33' for "
        r"1 \(by order\); name the records structure_0 and so on, or say whose they are: read_fas"
    )
    with pytest.warns(UserWarning, match=told) as warned:
        found = profile(structures([0, 1]), reference=fasta(*TURNED))
    assert found.recovery.values.tolist() == [0, 0]
    assert [one.filename for one in warned] == [__file__]


def test_one_of_two_is_told_too() -> None:
    with (
        pytest.warns(UserWarning, match=r"so '6MRR' is taken for structure 0 \(by order\)"),
        pytest.warns(UserWarning, match="found none for 1 of 2 structures"),
    ):
        profile(structures([0, 1]), reference=fasta(TURNED[0]))


def test_names_that_only_some_structures_have_are_told() -> None:
    ds = structures([0, 1, 2], ["5L33", "", "1O91"])
    told = r"some structures or records have no names of their own, so '6MRR' is taken for structu"
    with pytest.warns(UserWarning, match=told):
        profile(ds, reference=fasta(*TURNED, ("1O91", WORDS[2])))


def test_many_are_counted() -> None:
    reference = fasta(*((f"n{i}", WORDS[0]) for i in range(9)))
    with pytest.warns(UserWarning, match=r"'n4' for 4 and 4 more \(by order\)"):
        profile(structures(list(range(9))), reference=reference)


@pytest.mark.parametrize(
    "reference",
    [
        fasta(*TURNED, names={0: "5L33", 1: "6MRR"}),
        fasta(("structure_1", WORDS[1]), ("structure_0", WORDS[0])),
        fasta(("6MRR structure=1", WORDS[1]), ("5L33 structure=0", WORDS[0])),
    ],
    ids=["names", "numbers", "told"],
)
def test_numbers_are_whose_they_say(reference: xr.Dataset) -> None:
    assert recovery(structures([0, 1]), reference) == [1, 1]


def test_names_are_whose_they_say() -> None:
    assert recovery(structures([0, 1], ["5L33", "6MRR"]), fasta(*TURNED)) == [1, 1]


def test_a_reference_of_several_structures_of_one_name() -> None:
    """Samples of one design by two models are compared with one native."""
    ds = structures([0, 1, 2], ["5L33", "6MRR", "5L33"])
    assert recovery(ds, fasta(*TURNED)) == [1, 1, 0]


def test_numbers_of_structures_that_have_names() -> None:
    ds = structures([0, 1], ["5L33", "6MRR"])
    numbered = fasta(("structure_1", WORDS[1]), ("structure_0", WORDS[0]))
    assert recovery(ds, numbered) == [1, 1]


def test_recovery_leaves_out_unknown_residues() -> None:
    ds = structures([0])
    assert recovery(ds, fasta(("structure_0", "MXVA"))) == [pytest.approx(2 / 3)]


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        (np.zeros((300, 70)), r"found a ndarray of shape \(300, 70\); expected a Dataset"),
        (xr.DataArray(["MK"] * 300), r"found a DataArray of shape \(300,\); expected"),
        ("native.fasta", r"found a str; expected a Dataset; open it: read_fasta\(path\)"),
    ],
)
def test_what_is_no_reference(reference: Any, told: str) -> None:
    with pytest.raises(Refused, match=f"^reference: {told}"):
        profile(structures([0]), reference=reference)
