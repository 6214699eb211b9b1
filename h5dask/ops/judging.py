"""Stored neighbors beside the right ones: of which kind each is, within the rounding of float32.

Where either comes from is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from h5dask.ops.deviations import ROUNDING, Convention, Pairs, followed
from h5dask.ops.found import Ids
from h5dask.ops.metrics import Numbers

UNKNOWN = "unknown"
"""The convention of distances that follow none."""
OUTSIDE = -1
"""Stands where there is no true neighbor."""
KINDS = (
    "tied",
    "misplaced",
    "wrong",
    "other_label",
    "repeated",
    "out_of_range",
    "wrong_distances",
    "unsorted",
)
"""What a stored neighbor can be; bit i of `faults` is kind i."""
FAULTS = KINDS[1:]
"""Those that are wrong."""
_DIMS = ("query", "neighbor")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compared:
    """Stored neighbors beside the right ones; all (query, neighbor)."""

    ids: Ids
    """As stored."""
    right: Ids
    """-1 where there is none."""
    distances: Numbers
    """As stored."""
    given: Pairs
    """Of the stored ids."""
    true: Pairs
    """Of the right ones."""
    wanted: Convention
    """What the distances should be."""
    share: float
    """By which stored distances are rounded."""
    alike: NDArray[np.bool_] | None
    """Whether stored ids have the query's label."""

    def told(self) -> xr.Dataset:
        """Return what is of which kind, (query) and (query, neighbor), and what conventions."""
        follows = followed(self.distances, self.given, self.wanted)
        off, wrong = self._off(follows or self.wanted)
        flags = {**self._kinds(), "wrong_distances": wrong}
        flags["unsorted"] = self._descents(follows or self.wanted)
        faults = np.zeros(self.ids.shape, np.uint8)
        for bit, kind in enumerate(KINDS):
            faults |= flags[kind].astype(np.uint8) << np.uint8(bit)
        masks = {
            "flag_masks": 2 ** np.arange(len(KINDS), dtype=np.uint8),
            "flag_meanings": " ".join(KINDS),
        }
        return xr.Dataset(
            {
                **{kind: (_DIMS[:1], flags[kind].sum(axis=1)) for kind in KINDS},
                "exact_distances": (_DIMS, self.wanted.value(self.given)),
                "true_neighbors": (_DIMS, self.right),
                "true_distances": (_DIMS, self.wanted.value(self.true)),
                "faults": (_DIMS, faults, masks),
            },
            attrs={
                "convention": follows.name if follows else UNKNOWN,
                "expected_convention": self.wanted.name,
                "largest_deviation": float(np.nanmax(off, initial=0.0)),
            },
        )

    def _kinds(self) -> dict[str, NDArray[np.bool_]]:
        """Return which ids are of which kind; each of one at most."""
        found: dict[str, NDArray[np.bool_]] = {}
        left = self.ids != self.right

        def take(kind: str, which: NDArray[np.bool_]) -> None:
            nonlocal left
            found[kind] = left & which
            left = left & ~which

        nowhere = np.isnan(self.given.squares)
        found["out_of_range"], left = nowhere, left & ~nowhere
        again = repeated(self.ids) & ~nowhere
        found["repeated"], left = again, left & ~again
        if self.alike is None:
            found["other_label"] = np.zeros(left.shape, np.bool_)
        else:
            take("other_label", ~self.alike)
        left &= self.right != OUTSIDE  # where nothing is right, nothing is at a wrong place
        values, true = (self.wanted.value(one) for one in (self.given, self.true))
        mine, theirs = (
            np.fmax.accumulate(self.wanted.slack(one, ROUNDING), axis=1)
            for one in (self.given, self.true)
        )
        take("wrong", values - true[:, -1:] > mine + theirs[:, -1:])
        take("misplaced", np.abs(values - true) > mine + theirs)
        take("tied", np.ones(left.shape, np.bool_))
        return found

    def _off(self, follows: Convention) -> tuple[Numbers, NDArray[np.bool_]]:
        """Return how far stored distances are off a convention, and where by too much."""
        with np.errstate(invalid="ignore"):
            off = np.abs(self.distances - follows.value(self.given))
            wrong = ~(off <= follows.slack(self.given, self.share))
        return off, wrong & ~np.isnan(self.given.squares)

    def _descents(self, follows: Convention) -> NDArray[np.bool_]:
        """Return which distances are less than the one before by more than rounding."""
        sign = -1.0 if follows.descends else 1.0
        slack = np.nan_to_num(follows.slack(self.given, self.share))
        found = np.zeros(self.ids.shape, np.bool_)
        with np.errstate(invalid="ignore"):
            found[:, 1:] = -sign * np.diff(self.distances, axis=1) > slack[:, 1:] + slack[:, :-1]
        return found


def repeated(ids: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which ids stand nearer the front of their row already.

    Examples
    --------
    >>> repeated(np.array([[4, 2, 4, 4]]))
    array([[False, False,  True,  True]])
    """
    order = np.argsort(ids, axis=1, kind="stable")
    ordered = np.take_along_axis(ids, order, axis=1)
    found = np.zeros(ids.shape, np.bool_)
    again = np.zeros(ids.shape, np.bool_)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    np.put_along_axis(found, order, again, axis=1)
    return found
