"""Episode files that break a rule."""

import h5py
import numpy as np

from tests.files.episodes import N, document, ids, unit
from tests.files.variant import Variant, contiguous, register, renew, text

BROKEN: dict[str, Variant] = {}


@register(BROKEN, problems=("embeddings",))
def flat_embeddings(f: h5py.File) -> None:
    """Embeddings of rank 1."""
    document(f)
    renew(f, "embeddings", np.zeros(N, "f4"))


@register(BROKEN, problems=("embeddings",))
def integer_embeddings(f: h5py.File) -> None:
    """Embeddings as integers."""
    document(f)
    renew(f, "embeddings", np.zeros((N, 4), "i4"))


@register(BROKEN, problems=("episode_ids",))
def missing_ids(f: h5py.File) -> None:
    """No ids."""
    document(f)
    del f["episode_ids"]


@register(BROKEN, problems=("episode_ids",))
def fewer_ids(f: h5py.File) -> None:
    """One id too few."""
    document(f)
    renew(f, "episode_ids", ids(19))


@register(BROKEN, problems=("episode_ids",))
def integer_ids(f: h5py.File) -> None:
    """Ids as numbers."""
    document(f)
    renew(f, "episode_ids", np.arange(20))


@register(BROKEN, problems=("metadata/task", "metadata/success"))
def fewer_metadata(f: h5py.File) -> None:
    """Two fields of other lengths than the episodes: both are to be named."""
    document(f)
    renew(f["metadata"], "task", text(["pick"] * 19))
    renew(f["metadata"], "success", np.ones(21, "?"))


@register(BROKEN, problems=("metadata/pose",))
def metadata_matrix(f: h5py.File) -> None:
    """A field of rank 2."""
    document(f)
    f["metadata/pose"] = np.zeros((20, 3))


@register(BROKEN, problems=("metadata/scale",))
def metadata_scalar(f: h5py.File) -> None:
    """A field of rank 0."""
    document(f)
    f["metadata/scale"] = 1.5


@register(BROKEN, problems=("embeddings",))
def no_episodes(f: h5py.File) -> None:
    """Datasets without a row."""
    contiguous(f, "embeddings", np.zeros((0, 16), "f4"))
    contiguous(f, "episode_ids", text([]))


@register(BROKEN, problems=("200001",))
def too_many_episodes(f: h5py.File) -> None:
    """One episode above the limit."""
    f.create_dataset("embeddings", (200_001, 4), "f4", chunks=(8192, 4))
    f.create_dataset("episode_ids", (200_001,), "S6", chunks=(8192,))


@register(BROKEN, problems=("2049",))
def too_wide(f: h5py.File) -> None:
    """One dimension above the limit."""
    contiguous(f, "embeddings", unit(f, 3, 2049))
    contiguous(f, "episode_ids", ids(3))
