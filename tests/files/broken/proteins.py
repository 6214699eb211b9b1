"""Protein files that break a rule."""

import h5py
import numpy as np

from tests.files.proteins import first
from tests.files.variant import Variant, register, renew

BROKEN: dict[str, Variant] = {}


@register(BROKEN, problems=("sequences",))
def missing_sequences(f: h5py.File) -> None:
    """A structure without sequences."""
    first(f)
    del f["structure_1/sequences"]


@register(BROKEN, problems=("structure_2",))
def empty_structure(f: h5py.File) -> None:
    """A campaign that ended between making a group and its first sample."""
    first(f)
    del f["structure_2/sequences"], f["structure_2/logits"]


@register(BROKEN, problems=("logits",))
def unlike_logits(f: h5py.File) -> None:
    """Logits of another length than the sequences."""
    first(f)
    renew(f["structure_1"], "logits", np.zeros((4, 2, 6, 21), "f4"))


@register(BROKEN, problems=("logits",))
def twenty_letters(f: h5py.File) -> None:
    """Logits of 20 amino acids and none for the unknown one."""
    first(f)
    renew(f["structure_1"], "logits", np.zeros((4, 2, 7, 20), "f4"))


@register(BROKEN, problems=("sequences",))
def float_sequences(f: h5py.File) -> None:
    """Amino-acid indices as floating-point numbers."""
    first(f)
    renew(f["structure_1"], "sequences", np.zeros((4, 2, 7), "f4"))


@register(BROKEN, problems=("num_samples", "sequence_length"))
def wrong_sizes(f: h5py.File) -> None:
    """Attributes that don't count what is there: both are to be named."""
    first(f)
    f["structure_1"].attrs["num_samples"] = 5
    f["structure_2"].attrs["sequence_length"] = 12


@register(BROKEN, problems=("structure_index",))
def index_twice(f: h5py.File) -> None:
    """Two structures of one number."""
    first(f)
    f["structure_2"].attrs["structure_index"] = 1


@register(BROKEN, problems=("structure",))
def no_structures(f: h5py.File) -> None:
    """A file closed before its first structure."""
    f.attrs["schema_version"] = "sampling_v1"
    f.attrs["model_family"] = "proteinmpnn"
