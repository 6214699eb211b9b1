"""Small Datasets with each index of ours, for the tests of both."""

import numpy as np
import xarray as xr

from h5dask.indexes import Labels, RaggedIndex

SCENARIO = np.array(["base", "base", "x", "x", "x", "y"], dtype=object)
BRANCH = np.array(["", "m", "m", "n", "n", ""], dtype=object)
SAMPLE = np.array([0, 0, 1, 0, 1, 1], dtype=np.int32)
LABELS = ["scenario", "branch", "sample"]

STRUCTURE = np.array([17, 17, 3, 5], dtype=np.int32)
ROW_SIZE = np.array([2, 2, 5, 1], dtype=np.int32)
OWNER = np.repeat(np.arange(4), ROW_SIZE)  # the row that each residue belongs to
RAGGED = ["structure", "row_size"]


def labelled() -> xr.Dataset:
    index = Labels("record", {"scenario": SCENARIO, "branch": BRANCH, "sample": SAMPLE})
    activations = np.arange(12.0).reshape(6, 2)
    ds = xr.Dataset({"activations": (("record", "layer"), activations)})
    ds = ds.assign_coords(xr.Coordinates.from_xindex(index)).assign_coords(layer=[13, 14])
    ds.scenario.attrs["long_name"] = "name of the scenario"
    return ds


def ragged() -> xr.Dataset:
    coords = {"structure": STRUCTURE, "row_size": ROW_SIZE}
    index = RaggedIndex("sequence", "residue", 10, coords)
    return xr.Dataset(
        {
            "logits": (("residue", "aa"), np.arange(20.0).reshape(10, 2)),
            "pseudo_perplexity": ("sequence", np.arange(4.0)),
        },
        xr.Coordinates.from_xindex(index),
        attrs={"schema_version": "grid_v1"},
    )
