"""Sampled protein sequences and logits: every generation of such a file."""

from functools import partial
from typing import Any

import h5py
import numpy as np

from tests.files.variant import (
    Put,
    Variant,
    appended,
    chunked,
    contiguous,
    register,
    resizable,
    rng,
)

VARIANTS: dict[str, Variant] = {}
UNEQUAL: dict[str, Variant] = {}
"""Each structure is fine alone; together they don't make one set of variables."""

FIRST = {0: (4, 2, 11), 1: (4, 2, 7), 2: (4, 2, 13)}
"""Shapes of `sequences` by structure: (samples, noise, length)."""
GRID = {0: (4, 2, 3, 11), 1: (4, 2, 3, 7), 2: (4, 2, 3, 13)}
"""Shapes of `sequences` by structure: (samples, noise, temperatures, length)."""


def arrays(
    group: h5py.Group, shape: tuple[int, ...], put: Put = contiguous, *, with_logits: bool = True
) -> None:
    """Write amino-acid indices, among them the last one, 20, and logits that differ everywhere."""
    indices = rng(group, "sequences").integers(0, 21, shape)
    indices.flat[:1] = 20
    put(group, "sequences", indices.astype("<i4"))
    if with_logits:
        values = rng(group, "logits").normal(0, 3, (*shape, 21))
        put(group, "logits", values.astype("<f4"))


def sizes(shape: tuple[int, ...]) -> dict[str, int]:
    """Give the attributes that follow from the shape of `sequences`, of rank 3 or 4."""
    levels = {"num_samples": shape[0], "num_noise_levels": shape[1]}
    if len(shape) == 4:
        levels["num_temperatures"] = shape[2]
    return {**levels, "sequence_length": shape[-1]}


def structure(
    f: h5py.File, number: int, shape: tuple[int, ...], put: Put = contiguous, **attributes: Any
) -> None:
    """Write one structure of the first generation; `attributes` come after the document's own."""
    group = f.create_group(f"structure_{number}")
    arrays(group, shape, put)
    group.attrs.update({"structure_index": number, **sizes(shape), **attributes})
    return group


def newer(
    f: h5py.File,
    number: int,
    shape: tuple[int, ...],
    *,
    put: Put = contiguous,
    with_logits: bool = True,
    **attributes: Any,
) -> None:
    """Write one structure of the newer generation: named, with temperatures and perplexities."""
    group = f.create_group(f"structure_{number}")
    arrays(group, shape, put, with_logits=with_logits)
    perplexities = rng(group, "pseudo_perplexity").uniform(1, 21, shape[:-1])
    put(group, "pseudo_perplexity", perplexities.astype("<f4"))
    names = {"structure_index": number, "structure_id": f"{number + 1}ABC_A"}
    group.attrs.update({**names, **sizes(shape), **attributes})
    return group


def averaged(f: h5py.File, shapes: dict[int, tuple[int, ...]]) -> None:
    """Write averaged encodings as the newer generation does: without the axis that was averaged."""
    f.attrs.update({"schema_version": "sampling_averaged_v1", "model_family": "proteinmpnn"})
    for number, shape in shapes.items():
        group = f.create_group(f"structure_{number}")
        arrays(group, shape)
        group.attrs.update({"structure_index": number, "num_samples": shape[0]})
        group.attrs["num_noise_levels"] = 1
        group.attrs["num_temperatures"] = shape[1] if len(shape) == 3 else 1
        group.attrs["sequence_length"] = shape[-1]


def lineage(f: h5py.File, samples: int) -> dict[str, Any]:
    """Write the root members of a grid campaign's file; give those its structures repeat."""
    repeated = {"job_id": "job-7", "chunk_id": 3, "sample_start": 12, "sample_count": samples}
    f.attrs.update({"schema_version": "grid_v1", "manifest_row_hash": "9f86d081", **repeated})
    f["sample_indices"] = np.arange(12, 12 + samples)
    f["grid_iteration_ids"] = np.array([0])
    f["grid_iteration_sample_start"] = np.array([12])
    f["grid_iteration_sample_count"] = np.array([samples])
    return repeated


def first(f: h5py.File, put: Put = contiguous, **attributes: Any) -> None:
    """Write a whole file of the first generation."""
    for number, shape in FIRST.items():
        structure(f, number, shape, put, **attributes)


@register(VARIANTS)
def first_generation(f: h5py.File) -> None:
    """The document's form: contiguous, not resizable, each structure of its own length."""
    first(f)


@register(VARIANTS)
def one_structure_one_sample(f: h5py.File) -> None:
    """A single sequence; the optional attribute is there and false."""
    structure(f, 0, (1, 1, 9), averaged_encodings=False)


@register(VARIANTS)
def many_structures(f: h5py.File) -> None:
    """Thirteen structures: listed by name, `structure_10` comes before `structure_2`."""
    for number in range(13):
        structure(f, number, (2, 2, 5 + number))


@register(VARIANTS)
def numbers_with_gaps(f: h5py.File) -> None:
    """Structures 3, 7 and 120, all of one length."""
    for number in (3, 7, 120):
        structure(f, number, (4, 2, 8))


@register(VARIANTS)
def index_disagrees(f: h5py.File) -> None:
    """The attribute `structure_index`, which is what counts, runs against the names."""
    for number, shape in FIRST.items():
        structure(f, number, shape, structure_index=2 - number)


@register(VARIANTS, problems=("structure_index",))
def no_structure_index(f: h5py.File) -> None:
    """Only the names number the structures."""
    first(f)
    for group in f.values():
        del group.attrs["structure_index"]


@register(VARIANTS)
def unequal_samples(f: h5py.File) -> None:
    """Structures of 1, 5 and 3 samples, and of 2, 1 and 4 noise levels."""
    for number, shape in enumerate([(1, 2, 6), (5, 1, 9), (3, 4, 6)]):
        structure(f, number, shape)


@register(VARIANTS)
def averaged_first_generation(f: h5py.File) -> None:
    """Averaged encodings as the document tells: a noise axis of one, and the attribute."""
    for number, length in enumerate((11, 7)):
        structure(f, number, (4, 1, length), averaged_encodings=True)


@register(VARIANTS, problems=("averaged_encodings",))
def averaged_with_levels(f: h5py.File) -> None:
    """Averaged encodings that claim two noise levels."""
    first(f, averaged_encodings=True)


@register(VARIANTS)
def averaged_rank_two(f: h5py.File) -> None:
    """Newer averaged file of one temperature: (samples, length), `num_noise_levels` still 1."""
    averaged(f, {0: (4, 11), 1: (4, 7)})


@register(VARIANTS)
def averaged_rank_three(f: h5py.File) -> None:
    """Newer averaged file: (samples, temperatures, length), which looks like a noise axis."""
    averaged(f, {0: (4, 3, 11), 1: (4, 3, 7)})


@register(VARIANTS)
def newer_sampling(f: h5py.File) -> None:
    """Newer generation of a plain run: one temperature, which still has its axis."""
    f.attrs.update({"schema_version": "sampling_v1", "model_family": "proteinmpnn"})
    for number, shape in GRID.items():
        newer(f, number, (*shape[:2], 1, shape[-1]))


@register(VARIANTS)
def newer_grid(f: h5py.File) -> None:
    """Newer generation of a grid: rank 4, perplexities, and where the samples come from."""
    repeated = lineage(f, 4)
    for number, shape in GRID.items():
        newer(f, number, shape, **repeated)


@register(VARIANTS)
def no_logits(f: h5py.File) -> None:
    """Newer generation with logits switched off."""
    f.attrs.update({"schema_version": "sampling_v1", "model_family": "proteinmpnn"})
    for number, shape in GRID.items():
        newer(f, number, shape, with_logits=False)


@register(VARIANTS)
def campaign(f: h5py.File) -> None:
    """Design campaign: appended, so resizable and in automatic chunks, without logits."""
    repeated = lineage(f, 4)
    for number, shape in GRID.items():
        newer(f, number, shape, put=appended, with_logits=False, **repeated)


@register(VARIANTS)
def campaign_with_logits(f: h5py.File) -> None:
    """Design campaign with logits, unequal samples and lengths."""
    repeated = lineage(f, 6)
    for number, shape in enumerate([(6, 1, 2, 5), (2, 1, 2, 8)]):
        newer(f, number, shape, put=appended, **repeated)


@register(VARIANTS)
def flat(f: h5py.File) -> None:
    """The oldest form: all structures in one array at the root, which grows by structures."""
    arrays(f, (3, 4, 2, 11), resizable)


@register(VARIANTS)
def structure_meta(f: h5py.File) -> None:
    """A group whose name only begins like a structure's."""
    first(f)
    group = f.create_group("structure_meta")
    group.attrs["source"] = "inputs/"
    group["ids"] = np.array([b"5L33", b"6MRR", b"1UBQ"])


@register(VARIANTS)
def small_attributes(f: h5py.File) -> None:
    """Attributes as 32-bit integers."""
    for number, shape in FIRST.items():
        numbers = {"structure_index": number, **sizes(shape)}
        structure(f, number, shape, **{k: np.int32(v) for k, v in numbers.items()})


@register(VARIANTS)
def big_endian(f: h5py.File) -> None:
    """Numbers in the other byte order."""
    first(
        f, lambda g, name, values: contiguous(g, name, values.astype(values.dtype.newbyteorder()))
    )


@register(VARIANTS)
def gzip_shuffle(f: h5py.File) -> None:
    """Compressed in automatic chunks."""
    first(f, partial(chunked, compression="gzip", shuffle=True))


@register(VARIANTS, options={"track_order": True})
def tracked_order(f: h5py.File) -> None:
    """Structures in the order they were made, which is not that of their numbers."""
    for number in (2, 0, 1):
        structure(f, number, FIRST[number])


@register(VARIANTS, notes=("scores", "comment"))
def unknown_members(f: h5py.File) -> None:
    """A dataset and an attribute that no document names."""
    first(f)
    f["structure_1"]["scores"] = np.linspace(0, 1, 4)
    f["structure_0"].attrs["comment"] = "kept"


@register(VARIANTS, value_problems=("sequences",))
def index_out_of_range(f: h5py.File) -> None:
    """Amino-acid indices 21 and -1, which no letter has."""
    first(f)
    f["structure_1/sequences"][2, 1, 3] = 21
    f["structure_2/sequences"][0, 0, 0] = -1


@register(VARIANTS, value_problems=("logits",))
def nan_logits(f: h5py.File) -> None:
    """A NaN and an infinity among the logits."""
    first(f)
    f["structure_1/logits"][2, 1, 3, 20] = np.nan
    f["structure_2/logits"][0, 0, 0, 0] = -np.inf


@register(UNEQUAL)
def ranks(f: h5py.File) -> None:
    """A structure with a temperature axis beside one without."""
    structure(f, 0, FIRST[0])
    newer(f, 1, GRID[1])


@register(UNEQUAL)
def logits_in_some(f: h5py.File) -> None:
    """Logits in the first structure only."""
    for number, shape in GRID.items():
        newer(f, number, shape, with_logits=number == 0)
