"""Files that are damaged by chance or made to attack: told of clearly, or read, and nothing else.

Each is tried in a child process, so that a crash, a hang or a greedy allocation fails one test.
"""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np
import pytest

import h5dask
from h5dask.errors import CorruptInput, H5daskError, LayoutError, Refused
from tests import attempts
from tests.files import LAYOUTS, activations, ann, damaged, episodes, hostile, proteins
from tests.files.variant import TEXT
from tests.isolated import Call, Outcome, server

MEMORY = 2**30
"""Bytes that a child may take; none of the files needs a tenth of it."""
WAYS = (
    attempts.tell, attempts.glance, attempts.judge, attempts.sizes, attempts.corner, attempts.read
)  # fmt: skip


def is_told(outcome: Outcome, path: Path) -> bool:
    """Whether a child ended with values, or with an error of ours that names the file."""
    if outcome.signal or not isinstance(outcome.error, H5daskError | None):
        return False
    return outcome.error is None or str(path) in str(outcome.error)


SMALL = Path(__file__).parent / "real"
KINDS = [*LAYOUTS, "real"]


def variants(layout: str, folder: Path) -> dict[str, Path]:
    """Write every form of a layout's files, or copy the small real ones; return their paths."""
    if layout == "real":
        real = [path for path in SMALL.rglob("*") if path.suffix in (".h5", ".hdf5")]
        return {path.name: Path(shutil.copy(path, folder)) for path in real}
    paths = {name: folder / f"{name}.h5" for name in LAYOUTS[layout].VARIANTS}
    for name, path in paths.items():
        LAYOUTS[layout].VARIANTS[name].write(path)
    return paths


def cut_everywhere(layout: str, folder: Path, n_cuts: int, seed: int) -> list[str]:
    paths = variants(layout, folder)
    whole = server().run([Call(function=attempts.read, args=(str(p),)) for p in paths.values()])
    chance = random.Random(seed)
    calls = []
    for path, outcome in zip(paths.values(), whole, strict=True):
        assert outcome.error is None, outcome.said
        cuts = [chance.randrange(path.stat().st_size) for _ in range(n_cuts)]
        calls.append(
            Call(function=attempts.truncations, args=(str(path), cuts, outcome.value), seconds=60)
        )
    found = zip(paths, server().run(calls), strict=True)
    return [
        f"{name}: {out.said} {out.value}" for name, out in found if out.error or out.value != []
    ]


@pytest.mark.parametrize("layout", KINDS)
def test_a_truncated_file_is_told_or_harmless(layout: str, tmp_path: Path) -> None:
    assert cut_everywhere(layout, tmp_path, 40, seed=1) == []


@pytest.mark.soak
@pytest.mark.parametrize("layout", KINDS)
def test_a_file_truncated_at_a_thousand_places(layout: str, tmp_path: Path) -> None:
    assert cut_everywhere(layout, tmp_path, 1000, seed=2) == []


def value_bytes(path: Path) -> Iterable[range]:
    """Yield where numbers lie: all else is metadata, or the heap that text lies in."""
    found: list[range] = []

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if not isinstance(item, h5py.Dataset) or item.shape is None:
            return
        if item.chunks:
            chunks = map(item.id.get_chunk_info, range(item.id.get_num_chunks()))
            found.extend(range(c.byte_offset, c.byte_offset + c.size) for c in chunks)
        elif item.id.get_offset() is not None and item.dtype.kind != "O":
            start = item.id.get_offset()
            found.append(range(start, start + item.id.get_storage_size()))

    with h5py.File(path) as f:
        f.visititems(add)
    return found


def flipped(raw: bytes, at: int, chance: random.Random) -> bytes:
    """Change one byte: mostly a single bit, else a value at the edge of what fields hold."""
    bit = raw[at] ^ 1 << chance.randrange(8)
    value = bit if chance.random() < 0.6 else chance.choice([0, 1, 0x7F, 0x80, 0xFF])
    return raw[:at] + bytes([value]) + raw[at + 1 :]


def flip_metadata(layout: str, folder: Path, n_flips: int, seed: int) -> list[str]:
    """Flip bytes of metadata, and return a line for each file that wasn't told of or read."""
    chance = random.Random(f"{layout} {seed}")
    places: list[tuple[str, bytes, list[int]]] = []
    for name, path in variants(layout, folder).items():
        raw = path.read_bytes()
        values = {at for span in value_bytes(path) for at in span}
        # Of unused bytes, which are zeros, a tenth is enough.
        kept = [at for at in range(len(raw)) if at not in values and (raw[at] or at % 10 == 0)]
        places.append((name, raw, kept))
    calls, wrong = {}, []
    for number in range(n_flips):
        name, raw, kept = chance.choice(places)
        at = chance.choice(kept)
        path = folder / f"{number}.h5"
        path.write_bytes(flipped(raw, at, chance))
        call = Call(function=attempts.everything, args=(str(path),), memory=MEMORY)
        calls[f"{name}, byte {at}: {raw[at]} -> {path.read_bytes()[at]}"] = path, call
    outcomes = server().run([call for _, call in calls.values()])
    for (what, (path, _)), outcome in zip(calls.items(), outcomes, strict=True):
        if not is_told(outcome, path):
            wrong.append(f"{what}: {outcome.said}")
    return wrong


@pytest.mark.parametrize("layout", KINDS)
def test_a_flipped_byte_of_metadata_is_told_or_read(layout: str, tmp_path: Path) -> None:
    assert flip_metadata(layout, tmp_path, 60, seed=1) == []


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2, 12))
@pytest.mark.parametrize("layout", KINDS)
def test_thousands_of_flipped_bytes(layout: str, seed: int, tmp_path: Path) -> None:
    assert flip_metadata(layout, tmp_path, 1000, seed) == []


@pytest.mark.parametrize("name", [*damaged.BAD_VALUES, *damaged.UNNOTICED])
def test_damaged_values_are_told_when_they_are_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.h5"
    (damaged.BAD_VALUES | damaged.UNNOTICED)[name](path)
    opened = server()(attempts.sizes, str(path), memory=MEMORY)
    assert opened.error is None, opened.said
    for way in (attempts.read, attempts.judge):
        outcome = server()(way, str(path), memory=MEMORY)
        assert isinstance(outcome.error, CorruptInput), outcome.said
        told = re.escape(str(path)) + r".*: /(train|episode_ids|metadata/).*(copy|download)"
        assert re.search(told, outcome.said), outcome.said


@pytest.mark.parametrize("name", damaged.BAD_TEXT)
def test_bytes_that_are_no_text_are_read_all_the_same(name: str, tmp_path: Path) -> None:
    path = tmp_path / "text.h5"
    damaged.BAD_TEXT[name](path)
    outcome = server()(attempts.everything, str(path))
    assert outcome.error is None, outcome.said
    problems = [str(one) for one in h5dask.validate(path, values=True)]
    assert any(re.search(r"text\.h5: /episode_ids: \d+ (ids|texts)", one) for one in problems)


def endless_heap(path: Path) -> None:
    """Text of an attribute in a heap whose free space has no size: HDF5 would walk it for ever."""
    with h5py.File(path, "w") as f:
        ann.benchmark(f)
    raw = path.read_bytes()
    first = raw.index(b"GCOL") + 16  # the heap's only object, and what is free behind it
    free = first + 16 + -(-int.from_bytes(raw[first + 8 : first + 16], "little") // 8) * 8
    damaged.overwrite(path, free, bytes(16))


def greedy_attribute(path: Path) -> None:
    """Text of an attribute that claims to be of 4 GB, in a heap of 4 KiB."""
    with h5py.File(path, "w") as f:
        ann.benchmark(f)
    heap = path.read_bytes().index(b"GCOL")
    descriptor = heap.to_bytes(8, "little") + (1).to_bytes(4, "little")
    damaged.overwrite(path, path.read_bytes().index(descriptor) - 4, b"\xff" * 4)


def unknown_length_kind(path: Path) -> None:
    """An attribute whose type is neither text nor values of variable length: HDF5 would fault."""
    with h5py.File(path, "w") as f:
        ann.benchmark(f)
    kind = re.search(rb"\x19\x01[\x00\x01]\x00\x10\x00\x00\x00", path.read_bytes())
    assert kind is not None
    damaged.overwrite(path, kind.start() + 1, b"\x03")


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (endless_heap, r"free space of 0 bytes in the heap at offset"),
        (greedy_attribute, r"an attribute of 4,294,967,295 bytes, expected at most 9"),
        (unknown_length_kind, r"a type of variable length of kind 3, expected 0 or 1"),
    ],
)
def test_what_hdf5_would_hang_or_crash_on_is_told(write, told: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.h5"
    write(path)
    for way in WAYS:
        outcome = server()(way, str(path), memory=MEMORY)
        assert isinstance(outcome.error, CorruptInput), outcome.said
        assert re.search(re.escape(str(path)) + ".*" + told, outcome.said)


@pytest.mark.parametrize("name", hostile.OUTSIDE)
def test_nothing_outside_the_file_is_read(name: str, tmp_path: Path) -> None:
    path, target = tmp_path / "outside.h5", tmp_path / "copy.h5"
    hostile.OUTSIDE[name](path)
    said = server()(attempts.refusals, str(path), WAYS).value
    outcome = server()(attempts.rewrite, str(path), str(target))
    everything = "".join([*said, outcome.said])
    assert hostile.SECRET.decode()[:20] not in everything
    assert repr(list(hostile.SECRET[:12]))[1:-1] not in everything
    assert "InputChanged" not in everything
    if name.startswith("external_link"):
        # The link is carried over as a link; what it names isn't part of the Dataset.
        assert outcome.error is None
        assert "train" not in h5dask.open_dataset(target)
        assert any("isn't followed" in line and "/train" in line for line in said)
    else:
        assert isinstance(outcome.error, Refused)
        assert re.search(r"/train.*(external|virtual) storage", outcome.said)
        (problem,) = h5dask.validate(path)
        assert "/train: " in str(problem)
        assert "storage, whose values lie in other files" in str(problem)
        assert not target.exists()


@pytest.mark.parametrize("name", [*hostile.ENDLESS, *hostile.RARE_TYPES])
def test_circles_depths_and_rare_types_end(name: str, tmp_path: Path) -> None:
    path, target = tmp_path / "endless.h5", tmp_path / "copy.h5"
    (hostile.ENDLESS | hostile.RARE_TYPES)[name](path)
    for way in WAYS:
        outcome = server()(way, str(path), memory=MEMORY)
        assert is_told(outcome, path), outcome.said
        assert isinstance(outcome.error, Refused) == (name == "deep_nesting"), outcome.said
    outcome = server()(attempts.rewrite, str(path), str(target), memory=MEMORY)
    assert is_told(outcome, path), outcome.said


def test_a_deep_file_is_told_in_one_readable_line(tmp_path: Path) -> None:
    path = tmp_path / "deep.h5"
    hostile.deep_nesting(path)
    with pytest.raises(Refused, match=r"deep\.h5: /deep/deeper/deeper/\.\.\. lies 64 groups deep"):
        h5dask.open_dataset(path)


def huge_train(f: h5py.File, **storage: object) -> None:
    ann.benchmark(f)
    del f["train"]
    f.create_dataset("train", (2**54, ann.D), "<f4", **storage)


def huge_embeddings(f: h5py.File) -> None:
    f.create_dataset("embeddings", (2**50, 256), "<f4")
    f.create_dataset("episode_ids", (2**50,), TEXT, chunks=(64,))


def wide_embeddings(f: h5py.File) -> None:
    f.create_dataset("embeddings", (8, 2**56), "<f4", chunks=(1, 1024))
    f["episode_ids"] = np.array(["a"] * 8, object)


def square_embeddings(f: h5py.File) -> None:
    f.create_dataset("embeddings", (2**29, 2**29), "<f4", chunks=(1, 1024))
    f.create_dataset("episode_ids", (2**29,), TEXT, chunks=(64,))


def many_chunks(f: h5py.File) -> None:
    f.create_dataset("embeddings", (10**9, 1), "i1", chunks=(1, 1))
    f.create_dataset("episode_ids", (10**9,), TEXT, chunks=(1,))


HUGE = {
    "chunked": lambda f: huge_train(f, chunks=(1024, ann.D)),
    "contiguous": huge_train,
    "text": huge_embeddings,
    "wide": wide_embeddings,
    "square": square_embeddings,
    "many_chunks": many_chunks,
}


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_declared_shape_opens_and_takes_nothing(name: str, tmp_path: Path) -> None:
    path, target = tmp_path / "huge.h5", tmp_path / "copy.h5"
    with h5py.File(path, "w") as f:
        HUGE[name](f)
    for way in (attempts.tell, attempts.glance, attempts.sizes, attempts.corner):
        outcome = server()(way, str(path), memory=MEMORY)
        assert outcome.error is None, outcome.said
        assert outcome.grown < 300 << 20
    corner = outcome.value["train" if "train" in outcome.value else "embeddings"]
    assert set(np.ravel(corner).tolist()) == {0}
    outcome = server()(attempts.judge, str(path), memory=MEMORY)
    assert isinstance(outcome.error, Refused)
    assert re.search(r"huge\.h5: \w+ of shape .* takes [\d,]+ bytes, the file has", outcome.said)
    outcome = server()(attempts.rewrite, str(path), str(target), memory=MEMORY)
    assert isinstance(outcome.error, H5daskError), outcome.said
    assert [p.name for p in tmp_path.iterdir()] == ["huge.h5"]


def huge_records(f: h5py.File, rows: int) -> None:
    activations.document(f, activations.DISK, ("base",))
    declared(f["scenarios/base"], lambda shape: (rows, *shape[1:]))


def huge_structures(f: h5py.File, rows: int) -> None:
    proteins.first(f)
    for name in f:
        declared(f[name], lambda shape: (rows, *shape[1:]))


def declared(group: h5py.Group, enlarge) -> None:
    """Put a dataset of a larger shape, of which nothing is stored, in the place of each."""
    names: list[str] = []
    group.visititems(lambda name, x: names.append(name) if isinstance(x, h5py.Dataset) else None)
    for name in names:
        shape, dtype = enlarge(group[name].shape), group[name].dtype
        del group[name]
        group.create_dataset(name, shape, dtype, chunks=True)


@pytest.mark.parametrize("rows", [2**28, 2**45])
@pytest.mark.parametrize("fill", [huge_records, huge_structures])
def test_labels_are_not_held_for_rows_that_cannot_be_there(fill, rows: int, tmp_path: Path) -> None:
    path = tmp_path / "huge.h5"
    with h5py.File(path, "w") as f:
        fill(f, rows)
    assert server()(attempts.tell, str(path), memory=MEMORY).error is None
    for way in (attempts.sizes, attempts.judge):
        outcome = server()(way, str(path), memory=MEMORY)
        assert isinstance(outcome.error, Refused | LayoutError), outcome.said
        assert is_told(outcome, path)


def test_more_values_than_any_file_holds_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.h5"
    with h5py.File(path, "w") as f:
        f.create_dataset("embeddings", (2**62, 2**62), "<f4", chunks=(1, 1024))
    outcome = server()(attempts.sizes, str(path), memory=MEMORY)
    assert isinstance(outcome.error, Refused)
    assert "huge.h5: /embeddings declares" in outcome.said


def test_a_small_chunk_that_swells_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.h5"
    with h5py.File(path, "w") as f:
        ann.benchmark(f, dtype="i1")
        del f["train"], f["test"]
        f["test"] = np.zeros((ann.Q, 16), "i1")
        shape = (2**26, 16)
        made = f.create_dataset("train", shape, "i1", chunks=shape, compression="gzip")
        made.id.write_direct_chunk((0, 0), hostile.bomb(2**30))
    for way in (attempts.corner, attempts.judge):
        outcome = server()(way, str(path), memory=MEMORY)
        assert isinstance(outcome.error, Refused)
        assert "/train: a compressed chunk of 1,073,741,824 bytes" in outcome.said
        assert outcome.grown < 300 << 20


def test_a_chunk_stored_larger_than_it_can_be_is_told(tmp_path: Path) -> None:
    path = tmp_path / "chunk.h5"
    with h5py.File(path, "w") as f:
        ann.benchmark(f)
        del f["train"]
        f.create_dataset("train", (60, 12), "<f4", chunks=(60, 12), compression="gzip")
        f["train"].id.write_direct_chunk((0, 0), bytes(200_000))
    outcome = server()(attempts.read, str(path))
    assert isinstance(outcome.error, CorruptInput)
    assert "/train, chunk at (0, 0), 200,000 bytes at offset" in outcome.said


def test_values_among_a_thousand_million_chunks_are_found(tmp_path: Path) -> None:
    path = tmp_path / "sparse.h5"
    with h5py.File(path, "w") as f:
        many_chunks(f)
        f["embeddings"][3] = 7
        f["embeddings"][999_999_999] = 8
    outcome = server()(attempts.corner, str(path), memory=MEMORY)
    assert outcome.value["embeddings"] == [[0], [0], [0], [7], [0]]
    assert h5dask.open_dataset(path).embeddings[-2:].values.tolist() == [[0], [8]]


def test_a_damaged_file_is_never_half_written_again(tmp_path: Path) -> None:
    source, target = tmp_path / "in" / "a.h5", tmp_path / "target.h5"
    source.parent.mkdir()
    shutil.copyfile(__file__, target)
    before = target.read_bytes()
    for name, write in (damaged.BAD_VALUES | damaged.UNNOTICED).items():
        write(source)
        options = {"overwrite": True}
        outcome = server()(attempts.rewrite, str(source), str(target), options)
        assert isinstance(outcome.error, CorruptInput), (name, outcome.said)
        assert target.read_bytes() == before
        assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "target.h5"]


def test_the_simplest_episodes_still_open(tmp_path: Path) -> None:
    """What is refused here is refused for its damage, not for being small or odd."""
    path = tmp_path / "small.h5"
    with h5py.File(path, "w") as f:
        episodes.document(f)
    assert server()(attempts.everything, str(path), memory=MEMORY).error is None
