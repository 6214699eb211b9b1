"""Activation files that break a rule."""

from dataclasses import replace

import h5py
import numpy as np

from tests.files.activations import DISK, document
from tests.files.variant import Variant, register, renew, resizable

BROKEN: dict[str, Variant] = {}

NAMES = ("base", "matching_few_shot_prefilled")


@register(BROKEN, problems=("logits",))
def missing_logits(f: h5py.File) -> None:
    """A scenario without logits."""
    document(f, DISK, NAMES)
    del f["scenarios/base/data/logits"]


@register(BROKEN, problems=("prompts", "matching_answers"))
def missing_text(f: h5py.File) -> None:
    """Two of the three text datasets are gone: both are to be named."""
    document(f, DISK, NAMES)
    del f["scenarios/base/text/prompts"], f["scenarios/base/text/matching_answers"]


@register(BROKEN, problems=("activations_layer_13",))
def fewer_activations(f: h5py.File) -> None:
    """Activations of 4 samples beside logits of 5."""
    document(f, DISK, NAMES)
    f["scenarios/base/data/activations_layer_13"].resize(4, axis=0)


@register(BROKEN, problems=("prompts",))
def longer_text(f: h5py.File) -> None:
    """Prompts for 6 samples of 5."""
    document(f, DISK, NAMES)
    f["scenarios/base/text/prompts"].resize(6, axis=0)


@register(BROKEN, problems=("nonmatching",))
def unequal_branches(f: h5py.File) -> None:
    """The two branches of one text hold different numbers of samples."""
    document(f, DISK, NAMES)
    group = f["scenarios/matching_few_shot_prefilled/data/prefilled/nonmatching"]
    for name in group:
        group[name].resize(4, axis=0)


@register(BROKEN, problems=("activations_layer_13",))
def rank_three(f: h5py.File) -> None:
    """Activations with a token axis."""
    document(f, DISK, NAMES)
    renew(f["scenarios/base/data"], "activations_layer_13", np.zeros((5, 2, 16), "f2"))


@register(BROKEN, problems=("logits",))
def integer_logits(f: h5py.File) -> None:
    """Logits of a type that no logit has."""
    document(f, DISK, NAMES)
    renew(f["scenarios/base/data"], "logits", np.zeros((5, 40), "i2"))


@register(BROKEN, problems=("dataset_info",))
def not_json(f: h5py.File) -> None:
    """An attribute cut off in the middle of its JSON."""
    document(f, DISK, NAMES)
    f["metadata"].attrs["dataset_info"] = '{"name": "coordination", "ty'


@register(BROKEN, problems=("model_name", "dataset_type", "num_samples", "model_info"))
def missing_attributes(f: h5py.File) -> None:
    """Several attributes are gone: all are to be named."""
    document(f, DISK, NAMES)
    for name in ("model_name", "dataset_type", "num_samples"):
        del f.attrs[name]
    del f["metadata"].attrs["model_info"]


@register(BROKEN, problems=("num_samples",))
def wrong_total(f: h5py.File) -> None:
    """The root counts more samples than there are."""
    document(f, DISK, NAMES)
    f.attrs["num_samples"] = 11


@register(BROKEN, problems=("scenarios",))
def no_scenarios(f: h5py.File) -> None:
    """A file closed before its first scenario."""
    document(f, DISK, ())
    f.create_group("scenarios")


@register(BROKEN, problems=("scenarios",))
def no_rows(f: h5py.File) -> None:
    """Every dataset is there and none has a row."""
    document(f, replace(DISK, rows=0, put=resizable), ("base",))
