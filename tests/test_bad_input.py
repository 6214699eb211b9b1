"""Input that can't be read, judged or written: one clear line each, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr

import h5dask
from h5dask.errors import (
    AccessDenied,
    Conflict,
    CorruptInput,
    H5daskError,
    LayoutError,
    NotFound,
    OutOfSpace,
    Refused,
)
from h5dask.testing import example, example_file
from tests import attempts
from tests.files import LAYOUTS, ann, damaged, episodes
from tests.files.broken import BROKEN, REFUSED
from tests.files.variant import Variant
from tests.isolated import server

NOBODY = 65534
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0

OPENERS: dict[str, Callable[[Any], Any]] = {
    "open_dataset": h5dask.open_dataset,
    "open_datatree": h5dask.open_datatree,
    "identify": h5dask.identify,
    "validate": h5dask.validate,
    "xarray": lambda path: xr.open_dataset(path, engine="h5dask"),
    "several": lambda path: h5dask.open_dataset([example_file("episodes"), path]),
    "like": lambda path: h5dask.write_dataset(
        example("episodes"), Path(path).with_name("new.h5"), like=path
    ),
}


@contextlib.contextmanager
def untouched(folder: Path) -> Iterator[None]:
    """Assert that a folder holds the same files with the same bytes afterwards."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    yield
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("name", damaged.NOT_HDF5)
def test_what_is_no_hdf5_says_so(name: str, opener: str, tmp_path: Path) -> None:
    path = tmp_path / "input.h5"
    damaged.NOT_HDF5[name](path)
    with (
        untouched(tmp_path),
        pytest.raises(CorruptInput, match=r"^\S*/input\.h5: .*(download|copy)[^\n]*$"),
    ):
        OPENERS[opener](path)


@pytest.mark.parametrize("opener", OPENERS)
def test_what_is_no_file_says_so(opener: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, error, told in (
        ("missing.h5", NotFound, r"missing\.h5: no such file; check the path"),
        ("folder", NotFound, r"folder: is a folder; name a file in it"),
        ("file/inside.h5", NotFound, r"(a folder on its path is a file|no folder '\S+/file')"),
        ("nul\0.h5", NotFound, r"nul\\x00\.h5': a path holds no NUL character"),
        ("n" * 300, Refused, r"nnn: the name is too long here; choose a shorter one"),
        ("pipe", Refused, r"pipe: is a pipe or device; name a file"),
        ("/dev/null", Refused, r"/dev/null: is a pipe or device; name a file"),
    ):
        with pytest.raises(error, match=told):
            OPENERS[opener](str(tmp_path / name))


def test_an_unknown_protocol_is_told_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"nosuch://a/b\.h5: unknown scheme 'nosuch'"):
        h5dask.open_dataset("nosuch://a/b.h5")
    failing = example("episodes").chunk()
    failing["embeddings"] = failing.embeddings.copy(data=never(failing.embeddings))
    for overwrite in (True, False):
        with pytest.raises(NotFound, match=r"nosuch://a/b\.h5: unknown scheme 'nosuch'"):
            h5dask.write_dataset(failing, "nosuch://a/b.h5", overwrite=overwrite)


def never(like: Any) -> da.Array:
    """Return values whose computation fails."""

    def fail(block: Any) -> Any:
        raise RuntimeError("these values were computed")

    return da.map_blocks(fail, da.asarray(like), dtype=like.dtype)


def other_contents(f: h5py.File) -> None:
    f["images/first"] = np.zeros((3, 3))
    f.create_group("labels")


def two_layouts(f: h5py.File) -> None:
    ann.benchmark(f)
    episodes.document(f)


def empty_file(f: h5py.File) -> None:
    """Nothing but a root group."""


@pytest.mark.parametrize(
    ("fill", "told"),
    [
        (other_contents, r"no layout is recognised .*holds images/first.*labels.*activations, ann"),
        (empty_file, r"no layout is recognised .*holds nothing.*layout="),
        (two_layouts, r"fits ann and episodes .*name one with layout="),
    ],
)
@pytest.mark.parametrize("opener", ["open_dataset", "open_datatree", "identify", "validate"])
def test_a_layout_that_cannot_be_told(fill, told: str, opener: str, tmp_path: Path) -> None:
    path = tmp_path / "input.h5"
    with h5py.File(path, "w") as f:
        fill(f)
    with pytest.raises(LayoutError, match=rf"input\.h5: {told}"):
        OPENERS[opener](path)


def test_a_file_that_fits_two_layouts_opens_as_either(tmp_path: Path) -> None:
    path = tmp_path / "input.h5"
    with h5py.File(path, "w") as f:
        two_layouts(f)
    assert "train" in h5dask.open_dataset(path, layout="ann")
    assert "embeddings" in h5dask.open_dataset(path, layout="episodes")


@pytest.mark.parametrize("opener", [h5dask.open_dataset, h5dask.open_datatree])
@pytest.mark.parametrize("layout", ["activations", "proteins", "ann"])
def test_another_layout_than_the_file_has(opener, layout: str) -> None:
    with pytest.raises(LayoutError, match=rf"holds none of the datasets of {layout} \(it holds "):
        opener(example_file("episodes"), layout=layout)


CASES = [
    pytest.param(layout, variant, id=f"{layout}-{name}")
    for layout, variants in BROKEN.items()
    for name, variant in variants.items()
]


@pytest.mark.parametrize(("layout", "case"), CASES)
def test_a_broken_rule_is_told_with_its_place(layout: str, case: Variant, tmp_path: Path) -> None:
    path = tmp_path / "broken.h5"
    case.write(path)
    said = [str(p) for p in h5dask.validate(path, layout=layout) if p.level == "problem"]
    for word in case.problems:
        assert any(word in line for line in said), (word, said)
    for line in said:
        assert line.startswith(f"{path}: "), line
        assert "; expected " in line, line
    if not case.problems:
        assert said == []
        said = [str(p) for p in h5dask.validate(path, layout=layout, values=True)]
        for word in case.value_problems:
            assert any(word in line for line in said), (word, said)


@pytest.mark.parametrize(("layout", "case"), CASES)
def test_a_broken_file_opens_or_says_why_not(layout: str, case: Variant, tmp_path: Path) -> None:
    path = tmp_path / "broken.h5"
    case.write(path)
    said = ""
    try:
        ds = h5dask.open_dataset(path, layout=layout).compute()
    except LayoutError as error:
        ds, said = xr.Dataset(), str(error)
    assert case.problems or not said
    for line in said.splitlines():
        assert re.match(rf"{re.escape(str(path))}: .*(; expected |; name the layout)", line), line
    for variable in ds.variables.values():
        assert variable.shape == tuple(ds.sizes[dim] for dim in variable.dims)


@pytest.mark.parametrize(
    "name", [pytest.param(case, id=name) for name, case in REFUSED["ann"].items()]
)
def test_kinds_that_are_not_read_are_refused_in_one_line(name: Variant, tmp_path: Path) -> None:
    path = tmp_path / "other.h5"
    name.write(path)
    (word,) = name.problems
    with pytest.raises(LayoutError, match=rf"^\S+other\.h5: [^\n]*{word}[^\n]*$"):
        h5dask.open_dataset(path)
    (problem,) = h5dask.validate(path)
    assert word in str(problem)


def changed(layout: str, **values: Any) -> xr.Dataset:
    """Return the example of a layout with other values in some variables."""
    ds = example(layout)
    return ds.assign({name: (ds[name].dims, value) for name, value in values.items()})


def texts(*values: Any) -> Any:
    """Return six values as an array of objects."""
    array = np.empty(6, object)
    array[:] = [*values, *["x"] * (6 - len(values))]
    return array


def without_rows(layout: str) -> xr.Dataset:
    dim = {"activations": "record", "proteins": "sequence", "ann": "vector"}.get(layout, "episode")
    return example(layout).isel({dim: slice(0, 0)})


UNWRITABLE: dict[str, tuple[Callable[[], xr.Dataset], str]] = {
    "NUL in text": (
        lambda: changed("episodes", episode_ids=texts("a", "b\0c")),
        r"new\.h5: '/episode_ids' row 1 holds a NUL character at byte 1.*remove it",
    ),
    "number as text": (
        lambda: changed("episodes", episode_ids=texts("a", 5)),
        r"new\.h5: '/episode_ids' row 1 is 5, expected text; give every row a string",
    ),
    "nothing as text": (
        lambda: changed("episodes", metadata_task=texts(None)),
        r"new\.h5: '/metadata/task' row 0 is (None|nan), expected text",
    ),
    "complex numbers": (
        lambda: changed("episodes", embeddings=np.zeros((6, 8), complex)),
        r"embeddings has dtype complex128, expected float32 or float64",
    ),
    "times": (
        lambda: changed("episodes", metadata_task=np.zeros(6, "M8[s]")),
        r"metadata_task has dtype datetime64\[s\]; convert it to numbers or text",
    ),
    "a value that the type can't hold": (
        lambda: changed("ann", neighbors=np.full((5, 3), 0.5)),
        r"neighbors.*astype",
    ),
    "NUL in an attribute": (
        lambda: example("ann").assign_attrs(made_by="a\0b"),
        r"new\.h5: attribute 'made_by' of '/'.*NUL character",
    ),
    "an attribute that is no value": (
        lambda: example("ann").assign_attrs(made_by={"a": 1}),
        r"new\.h5: attribute 'made_by' of '/' is \{'a': 1\}, expected text",
    ),
    "missing attributes": (
        lambda: example("activations").drop_attrs(),
        r"lacks attributes that activations needs: model_name.*creation_date.*set them in ds",
    ),
    "missing variables": (
        lambda: example("ann").drop_vars(["test", "distances"]),
        r"has variables .*'train'.*layouts that fit: none; name one with layout=",
    ),
    "an unknown variable": (
        lambda: example("ann").assign(more=("vector", np.zeros(30))),
        r"more is no variable of ann; leave it out with ds\.drop_vars\('more'\)",
    ),
    "rows cut along one dim": (
        lambda: example("proteins").isel(sequence=slice(0, 2)),
        r"rows were cut along one dim only; select by label",
    ),
    **{
        f"no rows of {layout}": (lambda layout=layout: without_rows(layout), "no rows at all")
        for layout in LAYOUTS
    },
    "nothing": (xr.Dataset, r"the Dataset has variables \[\]: layouts that fit: none"),
}


@pytest.mark.parametrize("what", UNWRITABLE)
@pytest.mark.parametrize("exists", [False, True], ids=["new", "existing"])
def test_what_cannot_be_written_leaves_all_as_it_was(
    what: str, exists: bool, tmp_path: Path
) -> None:
    make, told = UNWRITABLE[what]
    path = tmp_path / "new.h5"
    if exists:
        path.write_text("precious")
    with untouched(tmp_path), pytest.raises(LayoutError, match=told):
        h5dask.write_dataset(make(), path, overwrite=exists)


def test_missing_variables_are_all_named(tmp_path: Path) -> None:
    ds = example("ann").drop_vars(["test", "distances"])
    with pytest.raises(LayoutError, match=r"test \(.*\) is missing; distances \(.*\) is missing"):
        h5dask.write_dataset(ds, tmp_path / "new.h5", layout="ann")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_among_the_values_is_raised_as_it_is(tmp_path: Path) -> None:
    ds = example("episodes").chunk(episode=2)
    ds["embeddings"] = ds.embeddings.copy(data=never(ds.embeddings))
    with untouched(tmp_path), pytest.raises(RuntimeError, match="these values were computed"):
        h5dask.write_dataset(ds, tmp_path / "new.h5")


@pytest.mark.parametrize("dtype", ["U", "S", object])
def test_numpy_text_of_any_kind_is_written_as_variable_length(dtype: Any, tmp_path: Path) -> None:
    path = tmp_path / "new.h5"
    names = np.array(["pick", "place", "", "a longer one", "5", "6"])
    h5dask.write_dataset(changed("episodes", episode_ids=names.astype(dtype)), path)
    with h5py.File(path) as f:
        kind = h5py.check_string_dtype(f["episode_ids"].dtype)
        assert (kind.encoding, kind.length) == ("utf-8", None)
        assert f["episode_ids"].asstr()[...].tolist() == names.tolist()


def test_the_form_of_another_layout_is_refused(tmp_path: Path) -> None:
    other = example_file("ann")
    with (
        untouched(tmp_path),
        pytest.raises(LayoutError, match=r"ann\.h5: like: its layout is ann, the Dataset is writ"),
    ):
        h5dask.write_dataset(example("episodes"), tmp_path / "new.h5", like=other)


def as_folder(path: Path) -> None:
    path.mkdir()


def as_pipe(path: Path) -> None:
    os.mkfifo(path)


def as_file(path: Path) -> None:
    path.write_text("precious")


def as_nothing(path: Path) -> None:
    """Leave the path without a file."""


TARGETS: list[tuple[str, Callable[[Path], None], bool, type[Exception], str]] = [
    ("a.h5", as_file, False, Conflict, r"a\.h5: exists already; choose another name, or allow it"),
    ("a.h5", as_folder, False, NotFound, r"a\.h5: is a folder; name a file in it"),
    ("a.h5", as_folder, True, NotFound, r"a\.h5: is a folder; name a file in it"),
    ("a.h5", as_pipe, False, Refused, r"a\.h5: is a pipe or device"),
    ("a.h5", as_pipe, True, Refused, r"a\.h5: is a pipe or device"),
    ("no/a.h5", as_nothing, True, NotFound, r"no/a\.h5: no folder '\S+/no'; make it first"),
    ("file/a.h5", as_nothing, True, NotFound, r"a\.h5: no folder '\S+/file'; make it first"),
    ("nul\0.h5", as_nothing, False, NotFound, r"a path holds no NUL character"),
    ("n" * 300, as_nothing, True, Refused, r"the name is too long here; choose a shorter one"),
]


@pytest.mark.parametrize(("name", "make", "overwrite", "error", "told"), TARGETS)
def test_a_target_that_cannot_be_is_told_before_any_work(
    name: str, make, overwrite: bool, error: type[Exception], told: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    make(tmp_path / name)
    ds = example("episodes").chunk()
    ds["embeddings"] = ds.embeddings.copy(data=never(ds.embeddings))
    with untouched(tmp_path), pytest.raises(error, match=told):
        h5dask.write_dataset(ds, tmp_path / name, overwrite=overwrite)


def test_the_longest_name_is_no_hindrance(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 252 + ".h5")
    h5dask.write_dataset(example("ann"), path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_target_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "new.h5"

    def appear(block: Any) -> Any:
        path.write_text("precious")
        return block

    ds = example("episodes").chunk()
    ds["embeddings"] = ds.embeddings.copy(
        data=da.map_blocks(appear, ds.embeddings.data, dtype="f4", meta=np.zeros((0, 0), "f4"))
    )
    with pytest.raises(Conflict, match=r"new\.h5: appeared while it was written"):
        h5dask.write_dataset(ds, path)
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]
    h5dask.write_dataset(ds, path, overwrite=True)
    assert h5dask.identify(path) == "episodes"


@pytest.fixture
def open_path(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that another user may look into; pytest's own are private."""
    if IS_ROOT:  # who tries as somebody else
        base = tmp_path_factory.getbasetemp()
        above = (one for one in base.parents if one.name.startswith("pytest-"))
        for place in (tmp_path, base, *above):
            place.chmod(0o755)
    return tmp_path


def test_a_file_of_another_user_is_access_denied(open_path: Path) -> None:
    path = open_path / "secret.h5"
    h5dask.write_dataset(example("ann"), path)
    path.chmod(0)
    for attempt in (attempts.read, attempts.judge, attempts.tell):
        outcome = server()(attempt, str(path), user=NOBODY)
        assert isinstance(outcome.error, AccessDenied), outcome.said
        assert re.search(r"secret\.h5: access denied .*check its permissions", outcome.said)


@pytest.mark.parametrize("options", [{}, {"overwrite": True}])
def test_a_folder_of_another_user_is_access_denied(options: dict, open_path: Path) -> None:
    path = open_path / "a.h5"
    if options:
        h5dask.write_dataset(example("ann"), path)
    open_path.chmod(0o555)
    with untouched(open_path):
        outcome = server()(attempts.write_example, "ann", str(path), options, user=NOBODY)
    open_path.chmod(0o755)
    assert isinstance(outcome.error, AccessDenied), outcome.said
    assert re.search(r"[^.]a\.h5: access denied \(Permission denied\)", outcome.said)


@contextlib.contextmanager
def mounted(kind: str, folder: Path, options: str) -> Iterator[None]:
    """Mount a filesystem in memory; for root on Linux."""
    folder.mkdir()
    command = ["mount", "-t", kind, "-o", options, kind, str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True, capture_output=True)


def can_mount() -> bool:
    """Whether a filesystem can be mounted here: not in every container, even for root."""
    if not IS_ROOT or sys.platform != "linux":
        return False
    folder = Path(f"/tmp/h5dask-{uuid.uuid4().hex}")
    try:
        with mounted("tmpfs", folder, "size=1m"):
            return True
    except (subprocess.CalledProcessError, OSError):
        return False
    finally:
        folder.rmdir()


MOUNTS = ["tmpfs"] if can_mount() else []
if not MOUNTS:
    warnings.warn("no filesystem can be mounted: full and read-only ones left out", stacklevel=1)


@pytest.mark.parametrize("kind", MOUNTS)
def test_a_read_only_filesystem_is_access_denied(kind: str, tmp_path: Path) -> None:
    with mounted(kind, tmp_path / "disk", "size=8m"):
        path = tmp_path / "disk" / "a.h5"
        h5dask.write_dataset(example("ann"), path)
        subprocess.run(["mount", "-o", "remount,ro", str(path.parent)], check=True)
        assert h5dask.validate(path, values=True) == ()
        for options in ({}, {"overwrite": True}):
            target = path if options else path.with_name("b.h5")
            with pytest.raises(AccessDenied, match=rf"{target.name}: on a read-only filesystem"):
                h5dask.write_dataset(example("ann"), target, **options)


def large_ann(n_rows: int, path: Path, options: dict[str, Any]) -> None:
    """Write a file whose base is of `n_rows` incompressible rows of 4 kB."""
    ds = example("ann").drop_vars(["train_labels", "test_labels", "valid_ratios"])
    ds = ds.drop_vars(["train", "test"])
    random = np.random.default_rng(1)
    ds["test"] = ("query", "feature"), random.random((5, 1024), "f4")
    base = da.from_array(random.random((n_rows, 1024), "f4"), chunks=(64, -1))
    ds["train"] = ("vector", "feature"), base
    h5dask.write_dataset(ds, path, **options)


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("limit", [1000, 40_000, 500_000, 2_500_000])
def test_a_limit_of_file_sizes_is_told_and_leaves_nothing(
    limit: int, compression: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.h5"
    path.write_text("precious")
    options = {"overwrite": True, "compression": compression}
    with untouched(tmp_path):
        outcome = server()(large_ann, 1024, path, options, file_nbytes=limit)
    assert isinstance(outcome.error, OutOfSpace), outcome.said
    assert re.search(r"[^.]a\.h5: .*(files may have|File too large|free some space)", outcome.said)


def filling(folder: Path, options: dict[str, Any]) -> None:
    """Write a file to a disk that another program fills while the first blocks are computed."""
    ds = example("episodes").isel(episode=np.arange(3000) % 6)
    ds = ds.assign_coords(episode_ids=("episode", np.arange(3000).astype("U6")))
    wide = np.random.default_rng(1).random((3000, 512), "f4")

    def fill(block: Any, block_info: Any = None) -> Any:
        if block_info[0]["chunk-location"][0] == 2:
            with contextlib.suppress(OSError):
                (folder / "other").write_bytes(bytes(1 << 24))
        return block

    values = da.map_blocks(fill, da.from_array(wide, chunks=(500, -1)), dtype="f4", meta=wide[:0])
    ds = ds.drop_vars("embeddings").assign(embeddings=(("episode", "feature"), values))
    h5dask.write_dataset(ds, folder / "a.h5", overwrite=True, **options)


@pytest.mark.parametrize("kind", MOUNTS)
@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}], ids=["plain", "gzip"])
def test_a_disk_that_fills_in_the_middle_leaves_the_old_file(
    options: dict, kind: str, tmp_path: Path
) -> None:
    with mounted(kind, tmp_path / "disk", "size=12m"):
        target = tmp_path / "disk" / "a.h5"
        target.write_text("precious")
        outcome = server()(filling, target.parent, options)
        assert isinstance(outcome.error, OutOfSpace), outcome.said
        assert re.search(r"disk/a\.h5: .*free some space or choose another target", outcome.said)
        assert target.read_text() == "precious"
        assert sorted(p.name for p in target.parent.iterdir()) == ["a.h5", "other"]


@pytest.mark.parametrize("kind", MOUNTS)
def test_a_disk_of_any_size_holds_the_file_or_says_so(kind: str, tmp_path: Path) -> None:
    """What remains of a disk never decides whether a file is half there."""
    whole = tmp_path / "whole.h5"
    h5dask.write_dataset(example("proteins"), whole)
    ended = set()
    for n_pages in (1, 2, 3, 5, 7, 9, 12, 16, 24, 40, 100):
        with mounted(kind, tmp_path / str(n_pages), f"size={4096 * n_pages}"):
            target = tmp_path / str(n_pages) / "a.h5"
            outcome = server()(attempts.write_example, "proteins", str(target))
            ended.add(type(outcome.error))
            assert isinstance(outcome.error, OutOfSpace | None), (n_pages, outcome.said)
            names = [p.name for p in target.parent.iterdir()]
            assert names == ([] if outcome.error else ["a.h5"])
            assert outcome.error is not None or target.read_bytes() == whole.read_bytes()
    assert ended == {OutOfSpace, type(None)}


def test_every_error_is_one_of_ours_and_survives_pickling(tmp_path: Path) -> None:
    path = tmp_path / "html.h5"
    damaged.html(path)
    outcome = server()(attempts.read, str(path))  # from another process, so pickled on its way
    assert isinstance(outcome.error, H5daskError)
    assert str(outcome.error).startswith(f"{path}: not an HDF5 file")
