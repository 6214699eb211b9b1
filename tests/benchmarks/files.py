"""The files that the benchmarks read, made by h5py as the programs that write such files do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t
from numpy.typing import NDArray

N_FEATURES = 128
CHUNK_ROWS = 4096
APPENDED_ROWS = 256
"""Rows that a producer of activations appends at a time."""
_MADE_NBYTES = 32 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A file, and where in it the values lie that are read."""

    path: Path
    variable: str
    """Its name in the Dataset."""
    group: str
    """Where it lies in the file, "/" the root."""
    dataset: str
    """Its name there."""
    keep: dict[str, Any] = field(default_factory=dict)
    """Selection of the variable that leaves exactly this dataset."""


def ann(path: Path, nbytes: int, **storage: Any) -> Made:
    """Write a vector-search file whose `train` has so many bytes, float32."""
    n_rows = max(1, nbytes // (4 * N_FEATURES))
    if "compression" in storage:
        storage["chunks"] = CHUNK_ROWS, N_FEATURES
    with h5py.File(path, "w") as file:
        file.attrs["distance"] = "euclidean"
        train = file.create_dataset("train", (n_rows, N_FEATURES), "<f4", **storage)
        for rows in _fill(train, vectors(_MADE_NBYTES // (4 * N_FEATURES))):
            train[rows[0]] = rows[1]
        file["test"] = vectors(100)
        file["neighbors"] = np.arange(1000, dtype="<i8").reshape(100, 10) % n_rows
        file["distances"] = np.zeros((100, 10), "<f4")
    return Made(path=path, variable="train", group="/", dataset="train")


def vectors(n_rows: int) -> NDArray[np.float32]:
    """Return normally distributed values in steps of 1/256: such that gzip has work to do."""
    values = np.random.default_rng(7).standard_normal((n_rows, N_FEATURES), np.float32)
    return np.round(values * 256) / np.float32(256)


def activations(
    path: Path, nbytes: int, variable: str, width: int, *, chunked: bool = True
) -> Made:
    """Write a file of one scenario, float16, in the chunks that h5py chooses, by appending.

    `variable` is "logits" or "activations" and has so many bytes; the other one has one column.
    """
    n_rows = max(1, nbytes // (2 * width))
    made = np.random.default_rng(7).standard_normal((APPENDED_ROWS, width), np.float32)
    with h5py.File(path, "w") as file:
        names = ("model_name", "dataset_name", "dataset_type", "creation_date")
        file.attrs.update(dict.fromkeys(names, "made") | {"num_samples": n_rows})
        metadata = file.create_group("metadata")
        metadata.attrs["dataset_info"] = f'{{"name": "made", "num_samples": {n_rows}}}'
        metadata.attrs["model_info"] = '{"name": "made", "layer_nums": [13]}'
        metadata.attrs["scenarios"] = '{"base": {"prefilled": false}}'
        group = "scenarios/base"
        for name in ("prompts", "matching_answers", "non_matching_answers"):
            kind = h5py.string_dtype()
            text = file.create_dataset(f"{group}/text/{name}", (0,), kind, maxshape=(None,))
            text.resize((n_rows,))
        stored = {"logits": "logits", "activations": "activations_layer_13"}
        for name, last in stored.items():
            values = made.astype("<f2") if name == variable else np.zeros((APPENDED_ROWS, 1), "<f2")
            where = f"{group}/data/{last}"
            if chunked:
                _append(file, where, values, n_rows)
            else:
                dataset = file.create_dataset(where, (n_rows, values.shape[1]), "<f2")
                for rows, part in _fill(dataset, values):
                    dataset[rows] = part
    layer = {"layer": 0} if variable == "activations" else {}
    last = stored[variable]
    return Made(path=path, variable=variable, group=f"{group}/data", dataset=last, keep=layer)


def with_another_scenario(path: Path) -> None:
    """Give a file of activations the scenario "other", which is "base" once more."""
    with h5py.File(path, "r+") as file:
        file.copy("scenarios/base", "scenarios/other")
        known = json.loads(file["metadata"].attrs["scenarios"])
        file["metadata"].attrs["scenarios"] = json.dumps(known | {"other": known["base"]})


def _append(file: Any, path: str, values: NDArray[Any], n_rows: int) -> None:
    """Create a resizable dataset without rows, and append to it."""
    width = values.shape[1]
    dataset = file.create_dataset(path, (0, width), "<f2", maxshape=(None, width))
    for start in range(0, n_rows, APPENDED_ROWS):
        stop = min(start + APPENDED_ROWS, n_rows)
        dataset.resize(stop, axis=0)
        dataset[start:stop] = values[: stop - start]


def _fill(dataset: Any, values: NDArray[Any]) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Yield slices of a dataset and what to write there: the same values again and again."""
    for start in range(0, len(dataset), len(values)):
        stop = min(start + len(values), len(dataset))
        yield slice(start, stop), values[: stop - start]


def proteins(path: Path, n_groups: int, shape: tuple[int, int, int] = (4, 1, 200)) -> None:
    """Write so many structures with their attributes; their values are holes that read as zero."""
    n_samples, n_noise, length = shape
    created = h5p.create(h5p.DATASET_CREATE)
    created.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    created.set_fill_time(h5d.FILL_TIME_NEVER)
    kinds = {
        b"sequences": (h5t.STD_I32LE, h5s.create_simple(shape)),
        b"logits": (h5t.IEEE_F32LE, h5s.create_simple((*shape, 21))),
    }
    with h5py.File(path, "w") as file:
        for number in range(n_groups):
            group = file.create_group(f"structure_{number}")
            group.attrs["structure_index"] = number
            group.attrs["num_samples"] = n_samples
            group.attrs["num_noise_levels"] = n_noise
            group.attrs["sequence_length"] = length
            for name, (kind, space) in kinds.items():
                h5d.create(group.id, name, kind, space, dcpl=created)
