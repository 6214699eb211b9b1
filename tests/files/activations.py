"""Model activations and logits: every form in which such a file occurs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    renew,
    resizable,
    rng,
    text,
)

VARIANTS: dict[str, Variant] = {}
UNEQUAL: dict[str, Variant] = {}
"""Each scenario is fine alone; together they fit no rectangle, so opening the whole is refused."""

DOCUMENT_SCENARIOS = (
    "base",
    "matching_few_shot",
    "matching_few_shot_prefilled",
    "matching_instruction",
    "non_matching_few_shot",
    "non_matching_few_shot_prefilled",
)
TEXTS = ("prompts", "matching_answers", "non_matching_answers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a scenario is stored."""

    rows: int = 5
    layers: tuple[int, ...] = (13,)
    vocab: int = 40
    hidden: int = 16
    dtype: str = "<f2"
    put: Put = resizable
    prefilled: str = "data/prefilled/{}"
    """Where the branches of a prefilled scenario lie."""
    zero_rows: bool = False
    """Whether the branches that a scenario doesn't use are there, without rows."""


DISK = Form(put=appended, zero_rows=True)
TREE = Form(prefilled="data/prefilled_{}")
NEWER = Form(dtype="<f4", put=contiguous, prefilled="")


def branch(scenario: h5py.Group, path: str, form: Form, rows: int) -> None:
    """Write the logits and activations of one branch, within the document's typical ranges."""
    group = scenario.require_group(path)
    logits = rng(group, "logits").uniform(-8, 24, (rows, form.vocab))
    form.put(group, "logits", logits.astype(form.dtype))
    for layer in form.layers:
        name = f"activations_layer_{layer}"
        values = rng(group, name).standard_normal((rows, form.hidden)).clip(-3, 3)
        form.put(group, name, values.astype(form.dtype))


def texts(scenario: h5py.Group, form: Form) -> None:
    """Write the three text datasets: lines, letters beyond ASCII, and an empty one."""
    for name in TEXTS:
        lines = [f"{scenario.name} {name} {i}:\n“naïve” → ∑ 漢字 🧬?" for i in range(form.rows)]
        form.put(scenario.require_group("text"), name, text([*lines[:-1], ""]))


def scenario(f: h5py.File, name: str, form: Form) -> None:
    """Write one scenario; it is prefilled if its name ends so and the form has such branches."""
    group = f.require_group("scenarios").create_group(name)
    texts(group, form)
    prefilled = name.endswith("prefilled") and bool(form.prefilled)
    if not prefilled or form.zero_rows:
        branch(group, "data", form, 0 if prefilled else form.rows)
    for side in ("matching", "nonmatching"):
        if prefilled or form.zero_rows:
            branch(group, form.prefilled.format(side), form, form.rows if prefilled else 0)


def settings(name: str) -> dict[str, Any]:
    """Give the configuration of a scenario, read off its name."""
    return {
        "matching": not name.startswith("non_matching"),
        "prefilled": "prefilled" in name,
        "instruction": "instruction" in name,
        "few_shot": "few_shot" in name,
        "num_shots": 3 * ("few_shot" in name),
    }


def attributes(f: h5py.File, names: Sequence[str], form: Form) -> None:
    """Write what describes the file: root attributes and the JSON texts of `/metadata`."""
    f.attrs["model_name"] = "llama2_7b_chat"
    f.attrs["dataset_name"] = "coordination"
    f.attrs["dataset_type"] = "multiple_choice"
    f.attrs["creation_date"] = "2025-01-31 12:34:56.789012"
    f.attrs["num_samples"] = form.rows * len(names)
    about = f.create_group("metadata")
    about.attrs["dataset_info"] = json.dumps(
        {"name": "coordination", "type": "multiple_choice", "num_samples": form.rows}
    )
    layers: dict[str, Any] = {"layer_nums": list(form.layers)}
    if not form.prefilled:
        layers = {"layer_num": form.layers[0]}
    about.attrs["model_info"] = json.dumps({"name": "llama2_7b_chat", **layers})
    about.attrs["scenarios"] = json.dumps({name: settings(name) for name in names})


def document(f: h5py.File, form: Form, names: Sequence[str] = DOCUMENT_SCENARIOS) -> None:
    """Write a whole file."""
    attributes(f, names, form)
    for name in names:
        scenario(f, name, form)


@register(VARIANTS)
def prefilled_zero_rows(f: h5py.File) -> None:
    """On-disk form, appended sample by sample: unused branches without rows, automatic chunks."""
    document(f, DISK)


@register(VARIANTS)
def tree_form(f: h5py.File) -> None:
    """The document's tree: `prefilled_matching`, `prefilled_nonmatching`; nothing without rows."""
    document(f, TREE)


@register(VARIANTS)
def prefilled_without_zero_rows(f: h5py.File) -> None:
    """On-disk names of the branches, each only where it has rows."""
    document(f, Form())


@register(VARIANTS)
def no_prefilled(f: h5py.File) -> None:
    """Scenarios of the plain kind only."""
    document(f, Form(), ("base", "matching_few_shot", "non_matching_few_shot"))


@register(VARIANTS)
def one_row(f: h5py.File) -> None:
    """A single sample in a single scenario."""
    document(f, replace(DISK, rows=1), ("base",))


@register(VARIANTS)
def newer_float32(f: h5py.File) -> None:
    """Newer generation: float32, contiguous, not resizable, `layer_num`, paired long names."""
    stems = ("matching{}_few_shot", "matching{}_instruction", "matching{}_few_shot_instruction")
    names = [stem.format("_prefilled_matching") for stem in stems]
    names += [f"non_{stem.format('_prefilled_non_matching')}" for stem in stems]
    document(f, NEWER, sorted(names))


@register(VARIANTS, notes=("num_samples",))
def combined(f: h5py.File) -> None:
    """Combined of parts: `dataset_info` still counts the first part's samples."""
    document(f, replace(DISK, rows=7))
    about = {"name": "coordination", "type": "multiple_choice", "num_samples": 3}
    f["metadata"].attrs["dataset_info"] = json.dumps(about)


@register(VARIANTS)
def several_layers(f: h5py.File) -> None:
    """Layers whose order as text isn't their order as numbers."""
    document(f, replace(TREE, layers=(0, 3, 13, 31)))


@register(VARIANTS)
def big_endian(f: h5py.File) -> None:
    """Numbers in the other byte order."""
    document(f, replace(DISK, dtype=">f2"))


@register(VARIANTS)
def gzip_shuffle(f: h5py.File) -> None:
    """Compressed, in chunks with partial edges."""
    put = partial(chunked, compression="gzip", shuffle=True)
    document(f, replace(TREE, rows=9, put=put))


@register(VARIANTS)
def twenty_scenarios(f: h5py.File) -> None:
    """Nine pairs of scenarios, a tenth beside a base: more than a naive listing by hand."""
    stems = [f"few_shot_{i}" for i in range(1, 10)]
    names = [f"{side}_{stem}" for side in ("matching", "non_matching") for stem in stems]
    document(f, replace(TREE, rows=3), ("base", *names, "matching_few_shot_prefilled"))


@register(VARIANTS)
def unequal_samples(f: h5py.File) -> None:
    """Scenarios of 2, 7 and 4 samples."""
    rows = {"base": 2, "matching_few_shot": 7, "matching_few_shot_prefilled": 4}
    attributes(f, tuple(rows), Form())
    f.attrs["num_samples"] = sum(rows.values())
    for name, n in rows.items():
        scenario(f, name, replace(DISK, rows=n))


@register(VARIANTS)
def empty_groups(f: h5py.File) -> None:
    """A group `prefilled` without any dataset in each plain scenario."""
    document(f, Form(), ("base", "matching_few_shot"))
    for name in ("base", "matching_few_shot"):
        f[f"scenarios/{name}/data"].create_group("prefilled/matching")


@register(VARIANTS, options={"track_order": True})
def tracked_order(f: h5py.File) -> None:
    """Creation order is tracked, so scenarios and attributes are listed in it, not by name."""
    document(f, replace(DISK, rows=3), ("matching_zeta", "base", "matching_alpha"))


@register(VARIANTS, notes=("checksum", "revision"))
def unknown_members(f: h5py.File) -> None:
    """Datasets, a group and attributes that no document names."""
    document(f, TREE)
    f.attrs["revision"] = np.arange(3)
    f["scenarios/base/data"].create_dataset("checksum", data=np.arange(4, dtype="u8"))
    f["scenarios/base/text/prompts"].attrs["tokenizer"] = "llama"
    f.create_group("extra").attrs["empty"] = h5py.Empty("f4")


@register(VARIANTS, notes=("prompts",))
def fixed_length_text(f: h5py.File) -> None:
    """Text of fixed length in place of variable."""
    document(f, Form(), ("base",))
    renew(f["scenarios/base/text"], "prompts", np.array([b"a", b"bb", b"", b"dddd", b"e"]))


@register(VARIANTS, value_problems=("logits",))
def overflowed_logits(f: h5py.File) -> None:
    """Logits above 65504, which float16 holds as infinity."""
    document(f, DISK, ("base",))
    f["scenarios/base/data/logits"][2, 5] = np.inf


@register(VARIANTS, value_problems=("activations_layer_13",))
def nan_activations(f: h5py.File) -> None:
    """NaNs, one of them with a payload."""
    document(f, DISK, ("base", "matching_few_shot"))
    bits = f["scenarios/base/data/activations_layer_13"][...].view("u2")
    bits[1, 3], bits[4, 0] = 0x7E00, 0xFDAB
    f["scenarios/base/data/activations_layer_13"][...] = bits.view("f2")


@register(VARIANTS, value_notes=("activations_layer_13", "logits"))
def out_of_range(f: h5py.File) -> None:
    """Values beyond the document's typical ranges, which is worth a note and no more."""
    document(f, DISK, ("base",))
    f["scenarios/base/data/activations_layer_13"][0, 0] = -41.5
    f["scenarios/base/data/logits"][3, 7] = 30


@register(UNEQUAL)
def widths(f: h5py.File) -> None:
    """Scenarios of different hidden and vocabulary size."""
    attributes(f, ("base", "matching_few_shot"), DISK)
    scenario(f, "base", DISK)
    scenario(f, "matching_few_shot", replace(DISK, hidden=24, vocab=48))


@register(UNEQUAL)
def layers(f: h5py.File) -> None:
    """Scenarios of different layers."""
    attributes(f, ("base", "matching_few_shot"), replace(DISK, layers=(3, 13, 20)))
    scenario(f, "base", replace(DISK, layers=(3, 13)))
    scenario(f, "matching_few_shot", replace(DISK, layers=(13, 20)))


@register(UNEQUAL)
def dtypes(f: h5py.File) -> None:
    """Scenarios of different precision."""
    attributes(f, ("base", "matching_few_shot"), DISK)
    scenario(f, "base", DISK)
    scenario(f, "matching_few_shot", replace(DISK, dtype="<f4"))
