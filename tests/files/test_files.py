import ast
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.files import (
    LAYOUTS,
    activations,
    ann,
    damaged,
    elements,
    episodes,
    filters,
    hostile,
    proteins,
    storage,
)
from tests.files.broken import BROKEN, REFUSED
from tests.files.variant import Array, Variant, read

ALL: dict[str, Variant] = {
    f"{layout}-{name}": variant
    for layout, module in LAYOUTS.items()
    for dicts in (module.VARIANTS, getattr(module, "UNEQUAL", {}), REFUSED.get(layout, {}))
    for name, variant in (dicts | BROKEN[layout]).items()
}
NUMBERS = ("<f4", ">f2", "<i8", "i1")
STORED = storage.FORMS | filters.FILTERS | filters.OTHERS | filters.INTEGER_ONLY


def opened(tmp_path: Path, module: object, name: str) -> h5py.File:
    module.VARIANTS[name].write(tmp_path / f"{name}.h5")  # type: ignore[attr-defined]
    return h5py.File(tmp_path / f"{name}.h5", "r")


def test_no_module_here_imports_what_it_judges() -> None:
    for path in Path(__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [n for n in names if n.split(".")[0] == "h5dask"], path


@pytest.mark.parametrize("name", ALL)
def test_variants_are_small_and_the_same_at_every_call(tmp_path: Path, name: str) -> None:
    first, second = tmp_path / "a.h5", tmp_path / "b.h5"
    arrays = ALL[name].write(first)
    ALL[name].write(second)
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size < 1_000_000
    assert list(arrays) == list(read(first))


def test_broken_files_name_what_is_wrong() -> None:
    for layout, variants in (BROKEN | {"refused": REFUSED["ann"]}).items():
        for name, variant in variants.items():
            assert variant.problems or variant.value_problems, (layout, name)


def test_activations_on_disk_have_branches_without_rows(tmp_path: Path) -> None:
    with opened(tmp_path, activations, "prefilled_zero_rows") as f:
        assert list(f["scenarios"]) == list(activations.DOCUMENT_SCENARIOS)
        assert f.attrs["num_samples"] == 30
        unused = f["scenarios/base/data/prefilled/matching/logits"]
        assert (unused.shape, unused.maxshape, unused.dtype) == ((0, 40), (None, 40), "<f2")
        assert unused.chunks == f["scenarios/base/data/logits"].chunks
        assert f["scenarios/base/data/logits"].shape == (5, 40)
        prefilled = f["scenarios/matching_few_shot_prefilled/data"]
        assert prefilled["logits"].shape == (0, 40)
        assert prefilled["prefilled/nonmatching/activations_layer_13"].shape == (5, 16)


def test_newer_activations_are_contiguous_and_paired(tmp_path: Path) -> None:
    with opened(tmp_path, activations, "newer_float32") as f:
        assert "layer_num" in json.loads(f["metadata"].attrs["model_info"])
        names = list(f["scenarios"])
        assert len({name.replace("non_matching", "matching") for name in names}) == len(names) / 2
        assert "matching_prefilled_matching_few_shot" in names
        for name in names:
            logits = f[f"scenarios/{name}/data/logits"]
            assert (logits.chunks, logits.maxshape, logits.dtype) == (None, (5, 40), "<f4")


def test_layers_are_listed_out_of_order(tmp_path: Path) -> None:
    with opened(tmp_path, activations, "several_layers") as f:
        listed = [name for name in f["scenarios/base/data"] if name != "logits"]
        assert [int(name.rpartition("_")[2]) for name in listed] == [0, 13, 3, 31]


def test_structures_are_listed_out_of_order(tmp_path: Path) -> None:
    with opened(tmp_path, proteins, "many_structures") as f:
        assert list(f)[:4] == ["structure_0", "structure_1", "structure_10", "structure_11"]
    with opened(tmp_path, proteins, "tracked_order") as f:
        assert list(f) == ["structure_2", "structure_0", "structure_1"]


@pytest.mark.parametrize(
    ("name", "rank"),
    [
        ("first_generation", 3),
        ("averaged_rank_two", 2),
        ("averaged_rank_three", 3),
        ("newer_grid", 4),
        ("newer_sampling", 4),
        ("campaign", 4),
    ],
)
def test_sequences_have_their_generation_s_rank(tmp_path: Path, name: str, rank: int) -> None:
    with opened(tmp_path, proteins, name) as f:
        group = f["structure_0"]
        sequences = group["sequences"]
        assert sequences.ndim == rank
        assert sequences.shape[-1] == group.attrs["sequence_length"]
        assert sequences.shape[0] == group.attrs["num_samples"]
        if "logits" in group:
            assert group["logits"].shape == (*sequences.shape, 21)
        if "pseudo_perplexity" in group:
            assert group["pseudo_perplexity"].shape == sequences.shape[:-1]
        growing = name == "campaign"
        assert sequences.maxshape == ((None if growing else 4), *sequences.shape[1:])
        assert (sequences.chunks is not None) == growing


def expected_distance(metric: str, query: Array, row: Array) -> float:
    a, b = query.astype("f8"), row.astype("f8")
    product = float(sum(a * b))
    if metric == "euclidean":
        return float(sum((a - b) ** 2)) ** 0.5
    if metric == "angular":
        return 1 - product / float(sum(a * a)) ** 0.5 / float(sum(b * b)) ** 0.5
    if metric == "hamming":
        return float(sum(a != b)) / len(a)
    return -product if row.dtype.kind == "i" else 1 - product


@pytest.mark.parametrize(
    "name", [n for n in ann.VARIANTS if n not in ("nan_vector", "zero_vector")]
)
def test_neighbors_are_the_nearest(tmp_path: Path, name: str) -> None:
    if name == "uint8_large":
        name = "uint8_small"  # the large value is put in afterwards
    with opened(tmp_path, ann, name) as f:
        metric = f.attrs["distance"]
        metric = metric.decode() if isinstance(metric, bytes) else metric
        allowed = np.ones((ann.Q, ann.N), bool)
        if "train_labels" in f:
            allowed = f["test_labels"][...][:, None] == f["train_labels"][...]
        for q, query in enumerate(f["test"]):
            distances = [expected_distance(metric, query, row) for row in f["train"]]
            ranked = np.sort(np.where(allowed[q], distances, np.inf))[: ann.K]
            own = np.array(distances)[f["neighbors"][q]]
            np.testing.assert_allclose(own, ranked, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(f["distances"][q], ranked, rtol=1e-6, atol=1e-6)
            assert allowed[q, f["neighbors"][q]].all()


def test_valid_ratios_have_both_lengths(tmp_path: Path) -> None:
    with opened(tmp_path, ann, "labels_with_gaps") as f:
        shares = [np.mean(f["train_labels"][...] == label) for label in range(6)]
        np.testing.assert_allclose(f["valid_ratios"], shares, rtol=1e-6)
    with opened(tmp_path, ann, "labels_counted_once") as f:
        assert f["valid_ratios"].shape == (3,)


def test_episodes_reach_the_limits_and_no_further(tmp_path: Path) -> None:
    with opened(tmp_path, episodes, "longest") as f:
        assert (len(f["embeddings"]), f["embeddings"].shape[1]) == (200_000, 1)
        assert len(set(f["episode_ids"][:])) == 200_000
    with opened(tmp_path, episodes, "widest") as f:
        assert f["embeddings"].shape[1] == 2048


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("name", STORED)
def test_storage_forms_hold_what_they_say(tmp_path: Path, name: str, dtype: str) -> None:
    values = storage.smooth(dtype)
    path = tmp_path / "x.h5"
    if name in filters.INTEGER_ONLY:
        values = storage.smooth("<i4")
    expected = STORED[name](path, "a/b", values)
    with h5py.File(path, "r") as f:
        found = f["a/b"]
        assert (found.dtype, found.shape) == (values.dtype, values.shape)
        assert found[...].tobytes() == expected.tobytes()
    same = expected.tobytes() == values.tobytes()
    altered = ("holes", "unwritten", "chunks_unwritten", "contiguous_unwritten", "shrunk")
    assert same == (not name.startswith((*altered, "lzf_incompressible")))


@pytest.mark.parametrize("name", storage.FORMS)
def test_chunk_indexes_are_those_named(tmp_path: Path, name: str) -> None:
    storage.FORMS[name](tmp_path / "x.h5", "x", storage.smooth("<f4"))
    raw = (tmp_path / "x.h5").read_bytes()
    index = name.removeprefix("holes_")
    for kind, signature in storage.SIGNATURES.items():
        aliases = {
            "fixed_array": ("paged", "libver_v11", "libver_v2"),
            "extensible_array": ("deep",),
        }
        expected = index.startswith((kind, *aliases.get(kind, ())))
        assert (signature in raw) == expected, kind
    # A version-1 B-tree of chunks is the node type 1; groups are type 0.
    expected = not any(s in raw for s in storage.SIGNATURES.values()) and name.startswith(
        ("btree_v1", "chunk_beyond", "holes", "shrunk", "grown", "user_block_4096", "libver_v108")
    )
    assert (b"TREE\x01" in raw) == expected


def test_filter_masks_differ_from_chunk_to_chunk(tmp_path: Path) -> None:
    filters.FILTERS["masked"](tmp_path / "x.h5", "x", storage.smooth("<f4"))
    with h5py.File(tmp_path / "x.h5", "r") as f:
        x = f["x"].id
        masks = {x.get_chunk_info(i).filter_mask for i in range(x.get_num_chunks())}
    assert masks == {0, 1, 2, 3}


def test_incompressible_chunks_are_left_as_they_are(tmp_path: Path) -> None:
    filters.FILTERS["lzf_incompressible"](tmp_path / "x.h5", "x", storage.smooth("<f4"))
    with h5py.File(tmp_path / "x.h5", "r") as f:
        assert f["x"].id.get_chunk_info(0).filter_mask == 1


@pytest.mark.parametrize("name", elements.TYPES | elements.RARE)
def test_elements_are_read_as_given(tmp_path: Path, name: str) -> None:
    expected = (elements.TYPES | elements.RARE)[name](tmp_path / "x.h5", "a/b")
    found = read(tmp_path / "x.h5")["a/b"]
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if found.dtype == object:
        assert [list(v) for v in found.flat] == [list(v) for v in expected.flat]
    else:
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", damaged.NOT_HDF5)
def test_what_is_not_hdf5_is_refused(tmp_path: Path, name: str) -> None:
    damaged.NOT_HDF5[name](tmp_path / "x.h5")
    with pytest.raises(OSError, match="Unable to synchronously open file"):
        h5py.File(tmp_path / "x.h5", "r")


@pytest.mark.parametrize("name", damaged.BAD_VALUES)
def test_bad_values_show_only_when_read(tmp_path: Path, name: str) -> None:
    damaged.BAD_VALUES[name](tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r") as f:
        assert len(f)
    with pytest.raises(OSError, match="Can't synchronously read data"):
        read(tmp_path / "x.h5")


def test_a_short_chunk_is_read_by_hdf5_without_a_word(tmp_path: Path) -> None:
    damaged.UNNOTICED["short_chunk"](tmp_path / "x.h5")
    assert read(tmp_path / "x.h5")["train"].shape == (ann.N, ann.D)


def test_truncated_files_are_cut(tmp_path: Path) -> None:
    ann.VARIANTS["float_euclidean"].write(tmp_path / "x.h5")
    damaged.truncated(tmp_path / "x.h5", 4000)
    assert (tmp_path / "x.h5").stat().st_size == 4000
    with pytest.raises(OSError, match="truncated file"):
        h5py.File(tmp_path / "x.h5", "r")


@pytest.mark.parametrize("name", hostile.OUTSIDE | hostile.ENDLESS | hostile.RARE_TYPES)
def test_hostile_files_are_proper_hdf5(tmp_path: Path, name: str) -> None:
    write: Callable[[Path], None] = getattr(hostile, name)
    write(tmp_path / "x.h5")
    assert (tmp_path / "x.h5").stat().st_size < 1_000_000
    assert read(tmp_path / "x.h5")


@pytest.mark.parametrize("name", hostile.HUGE)
def test_huge_files_are_small(tmp_path: Path, name: str) -> None:
    hostile.HUGE[name](tmp_path / "x.h5")
    assert (tmp_path / "x.h5").stat().st_size < 1_100_000
    with h5py.File(tmp_path / "x.h5", "r") as f:
        assert max(v.nbytes for v in f.values() if isinstance(v, h5py.Dataset)) >= 10**9


def test_the_bomb_holds_zeros() -> None:
    assert zlib.decompress(hostile.bomb(2**25)) == bytes(2**25)
