"""The public names over every store: what they give there is what they give locally."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr

import h5dask
from h5dask import layouts
from h5dask.errors import (
    AccessDenied,
    Conflict,
    CorruptInput,
    H5daskError,
    InputChanged,
    NotFound,
    Refused,
    StoreUnavailable,
)
from h5dask.results import open_any, write_result
from h5dask.testing import assert_same_form, example, example_file
from tests.servers import Endpoint
from tests.servers import nginx as web

# A store that gives wholes only is used all the same; `test_no_ranges` asks for the note.
pytestmark = pytest.mark.filterwarnings("ignore:.*gives no parts of it")
LAYOUTS = tuple(layouts.names())
RESULT = xr.Dataset(
    {"mean": (("layer", "feature"), np.arange(12, dtype=np.float32).reshape(3, 4))},
    coords={"layer": [3, 13, 23]},
    attrs={"of": "nothing"},
).chunk(layer=1)


def placed(endpoint: Endpoint, name: str, layout: str, seed: int = 0) -> str:
    return endpoint.place(name, Path(example_file(layout, seed)).read_bytes())


def fetched(endpoint: Endpoint, name: str, folder: Path) -> str:
    """Return a local copy of an object."""
    path = folder / Path(name).name
    path.write_bytes(endpoint.content(name))
    return str(path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_open(endpoint: Endpoint, folder: str, layout: str) -> None:
    url, local = placed(endpoint, f"{folder}/a.h5", layout), example_file(layout)
    opened = h5dask.open_dataset(url, storage_options=endpoint.options)
    xr.testing.assert_identical(opened.compute(), h5dask.open_dataset(local).compute())
    assert h5dask.identify(url, storage_options=endpoint.options) == layout
    assert h5dask.validate(url, values=True, storage_options=endpoint.options) == ()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_compute_from(endpoint: Endpoint, folder: str, layout: str) -> None:
    url, local = placed(endpoint, f"{folder}/a.h5", layout), example_file(layout)
    opened = h5dask.open_dataset(url, storage_options=endpoint.options)
    xr.testing.assert_identical(
        h5dask.scan(opened).compute(), h5dask.scan(h5dask.open_dataset(local)).compute()
    )


@pytest.mark.parametrize("layout", ["activations", "proteins"])
def test_blocks_in_other_processes(moto: Endpoint, folder: str, layout: str) -> None:
    url, local = placed(moto, f"{folder}/a.h5", layout), example_file(layout)
    opened = h5dask.open_dataset(url, storage_options=moto.options)
    with dask.config.set(scheduler="processes", num_workers=2):
        xr.testing.assert_identical(opened.compute(), h5dask.open_dataset(local).compute())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_write(writable: Endpoint, folder: str, layout: str, tmp_path: Path) -> None:
    url = f"{writable.url}/{folder}/a.h5"
    h5dask.write_dataset(example(layout), url, layout=layout, storage_options=writable.options)
    written = fetched(writable, f"{folder}/a.h5", tmp_path)
    assert_same_form(written, example_file(layout))
    xr.testing.assert_identical(
        h5dask.open_dataset(written).compute(), h5dask.open_dataset(example_file(layout)).compute()
    )
    assert h5dask.validate(written, values=True) == ()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_from_store_to_store(writable: Endpoint, folder: str, layout: str, tmp_path: Path) -> None:
    url = placed(writable, f"{folder}/a.h5", layout)
    opened = h5dask.open_dataset(url, storage_options=writable.options)
    again = f"{writable.url}/{folder}/b.h5"
    h5dask.write_dataset(opened, again, storage_options=writable.options)
    assert_same_form(fetched(writable, f"{folder}/b.h5", tmp_path), example_file(layout))


def test_write_compressed(writable: Endpoint, folder: str, tmp_path: Path) -> None:
    url, options = f"{writable.url}/{folder}/a.h5", writable.options
    ds = example("activations")
    h5dask.write_dataset(ds, url, layout="activations", compression="gzip", storage_options=options)
    written = fetched(writable, f"{folder}/a.h5", tmp_path)
    xr.testing.assert_equal(h5dask.open_dataset(written).compute(), ds)


def test_nothing_is_overwritten(writable: Endpoint, folder: str) -> None:
    url = writable.place(f"{folder}/a.h5", b"dear")
    with pytest.raises(Conflict, match=rf"{folder}/a\.h5: .*exists"):
        h5dask.write_dataset(example("ann"), url, layout="ann", storage_options=writable.options)
    assert writable.content(f"{folder}/a.h5") == b"dear"


def test_overwrite(writable: Endpoint, folder: str, tmp_path: Path) -> None:
    url, options = writable.place(f"{folder}/a.h5", b"worthless"), writable.options
    h5dask.write_dataset(example("ann"), url, layout="ann", overwrite=True, storage_options=options)
    assert_same_form(fetched(writable, f"{folder}/a.h5", tmp_path), example_file("ann"))


def test_over_itself(writable: Endpoint, folder: str, tmp_path: Path) -> None:
    url, options = placed(writable, f"{folder}/a.h5", "ann"), writable.options
    opened = h5dask.open_dataset(url, storage_options=options)
    h5dask.write_dataset(opened, url, overwrite=True, storage_options=options)
    assert_same_form(fetched(writable, f"{folder}/a.h5", tmp_path), example_file("ann"))


def test_a_pattern(endpoint: Endpoint, folder: str, tmp_path: Path) -> None:
    for i in range(30):
        placed(endpoint, f"{folder}/part-{i:02}.h5", "activations", seed=i % 3)
        shutil.copy(example_file("activations", i % 3), tmp_path / f"part-{i:02}.h5")
    endpoint.place(f"{folder}/part.txt", b"not of them")
    opened = h5dask.open_dataset(
        f"{endpoint.url}/{folder}/part-*.h5", storage_options=endpoint.options
    ).compute()
    expected = h5dask.open_dataset(f"{tmp_path}/part-*.h5").compute()
    xr.testing.assert_identical(opened.drop_vars("source"), expected.drop_vars("source"))
    for found, local in zip(opened.source.values, expected.source.values, strict=True):
        assert found == f"{endpoint.url}/{folder}/{Path(local).name}"
    with pytest.raises(NotFound, match=rf"{folder}/q\*\.h5: no file matches"):
        h5dask.open_dataset(f"{endpoint.url}/{folder}/q*.h5", storage_options=endpoint.options)


@pytest.mark.parametrize("ending", [".zarr", ".nc"])
def test_results(writable: Endpoint, folder: str, ending: str) -> None:
    url, options = f"{writable.url}/{folder}/r{ending}", writable.options
    if ending == ".zarr" and url.startswith("sftp://"):
        with pytest.raises(Refused, match=r"r\.zarr: Zarr isn't read or written by SFTP"):
            write_result(RESULT, url, storage_options=options)
        return
    for _ in range(2):
        write_result(RESULT, url, overwrite=True, storage_options=options)
        found = open_any(url, storage_options=options).compute()
        xr.testing.assert_identical(found, RESULT.compute())
    with pytest.raises(Conflict, match=rf"{folder}/r\{ending}: .*exists"):
        write_result(RESULT, url, storage_options=options)


def test_results_of_a_verb(writable: Endpoint, folder: str, tmp_path: Path) -> None:
    url = placed(writable, f"{folder}/a.h5", "activations")
    options = writable.options
    summary = h5dask.summarize(h5dask.open_dataset(url, storage_options=options), "record")
    local = h5dask.summarize(h5dask.open_dataset(example_file("activations")), "record")
    ending = ".nc" if url.startswith("sftp://") else ".zarr"
    write_result(summary, f"{writable.url}/{folder}/s{ending}", storage_options=options)
    write_result(local, f"{tmp_path}/s{ending}")
    found = open_any(f"{writable.url}/{folder}/s{ending}", storage_options=options).compute()
    xr.testing.assert_identical(found, open_any(f"{tmp_path}/s{ending}").compute())


def test_changed_after_opening(ranged: Endpoint, folder: str) -> None:
    url = placed(ranged, f"{folder}/a.h5", "activations")
    opened = h5dask.open_dataset(url, storage_options=ranged.options)
    _replace(ranged, f"{folder}/a.h5")
    with pytest.raises(InputChanged, match=r"a\.h5: changed since it was opened"):
        opened.compute()
    again = h5dask.open_dataset(url, storage_options=ranged.options).compute()
    expected = h5dask.open_dataset(example_file("activations", 1)).compute()
    xr.testing.assert_identical(again, expected)


def test_changed_after_it_was_fetched_whole(unranged: Endpoint, folder: str) -> None:
    url = placed(unranged, f"{folder}/a.h5", "activations")
    opened = h5dask.open_dataset(url, storage_options=unranged.options)
    _replace(unranged, f"{folder}/a.h5")
    again = h5dask.open_dataset(url, storage_options=unranged.options)
    for seed, found in enumerate((opened, again)):
        expected = h5dask.open_dataset(example_file("activations", seed)).compute()
        xr.testing.assert_identical(found.compute(), expected)


def _replace(endpoint: Endpoint, name: str) -> None:
    other = Path(example_file("activations", 1)).read_bytes()
    endpoint.place(name, other + bytes(8))  # of another size: no server mistakes it for the first


def test_no_such_object(endpoint: Endpoint, folder: str) -> None:
    placed(endpoint, f"{folder}/a.h5", "ann")
    with pytest.raises(NotFound, match=rf"{folder}/b\.h5: .*check the path"):
        h5dask.open_dataset(f"{endpoint.url}/{folder}/b.h5", storage_options=endpoint.options)


def test_no_such_bucket(bucketed: Endpoint) -> None:
    url, options = f"{bucketed.url.partition('://')[0]}://nowhere-at-all/a.h5", bucketed.options
    with pytest.raises(NotFound, match=r"nowhere-at-all/a\.h5: .*check"):
        h5dask.open_dataset(url, storage_options=options)
    with pytest.raises(NotFound, match=r"nowhere-at-all/a\.h5: .*check"):
        h5dask.write_dataset(example("ann"), url, layout="ann", storage_options=options)


def test_a_stranger(guarded: Endpoint, folder: str) -> None:
    url = placed(guarded, f"{folder}/a.h5", "ann")
    told = []
    for action in (
        lambda: h5dask.open_dataset(url, storage_options=guarded.wrong),
        lambda: h5dask.write_dataset(
            example("ann"), f"{url}5", layout="ann", storage_options=guarded.wrong
        ),
        lambda: write_result(
            RESULT, f"{guarded.url}/{folder}/r.zarr", storage_options=guarded.wrong
        ),
    ):
        with pytest.raises(AccessDenied, match=rf"{folder}/.*check") as raised:
            action()
        told.append(str(raised.value))
    assert not [text for text in told for secret in guarded.secrets() if secret in text]
    assert not guarded.holds(f"{folder}/a.h55")


def test_graphs_hold_no_open_client(endpoint: Endpoint, folder: str) -> None:
    url = placed(endpoint, f"{folder}/a.h5", "ann")
    opened = h5dask.open_dataset(url, storage_options=endpoint.options)
    secrets = endpoint.secrets()
    keys = [str(key) for key in dict(opened.__dask_graph__())]
    assert not [secret for secret in secrets for text in [*keys, repr(opened)] if secret in text]
    xr.testing.assert_identical(pickle.loads(pickle.dumps(opened)).compute(), opened.compute())


@pytest.mark.needs("nginx")
def test_no_ranges(nginx: Endpoint, folder: str) -> None:
    placed(nginx, f"{folder}/a.h5", "activations")
    with pytest.warns(UserWarning, match=r"whole/.*a\.h5: its server gives no parts of it"):
        opened = h5dask.open_dataset(f"{web.place(nginx, 'whole')}/{folder}/a.h5")
    expected = h5dask.open_dataset(example_file("activations"))
    xr.testing.assert_identical(opened.compute(), expected.compute())


@pytest.mark.needs("nginx")
@pytest.mark.parametrize("place", ["busy", "packed", "moved"])
def test_other_ways_of_serving(nginx: Endpoint, folder: str, place: str) -> None:
    placed(nginx, f"{folder}/a.h5", "activations")
    opened = h5dask.open_dataset(f"{web.place(nginx, place)}/{folder}/a.h5")
    expected = h5dask.open_dataset(example_file("activations"))
    xr.testing.assert_identical(opened.compute(), expected.compute())


@pytest.mark.needs("nginx")
@pytest.mark.parametrize(
    ("place", "error", "text"),
    [
        ("gone", StoreUnavailable, "the store gave no answer to use"),
        ("failing", StoreUnavailable, "503"),
        ("denied", AccessDenied, "403"),
        ("page", CorruptInput, "not an HDF5 file|HTML"),
    ],
)
def test_servers_that_refuse(
    nginx: Endpoint, folder: str, place: str, error: type[H5daskError], text: str
) -> None:
    url = f"{web.place(nginx, place)}/{folder}/a.h5"
    with (
        dask.config.set({"h5dask.store-deadline": "1 s"}),
        pytest.raises(error, match=rf"{place}/{folder}/a\.h5: .*({text})"),
    ):
        h5dask.open_dataset(url)


@pytest.mark.needs("nginx")
def test_a_web_server_takes_nothing(nginx: Endpoint, folder: str) -> None:
    with pytest.raises(Refused, match=rf"{folder}/a\.h5: .*read"):
        h5dask.write_dataset(example("ann"), f"{nginx.url}/{folder}/a.h5", layout="ann")
    assert not nginx.holds(f"{folder}/a.h5")


def test_not_hdf5(endpoint: Endpoint, folder: str) -> None:
    url = endpoint.place(f"{folder}/a.h5", b"plain text\n" * 1000)
    with pytest.raises(CorruptInput, match=rf"{folder}/a\.h5: not an HDF5 file"):
        h5dask.open_dataset(url, storage_options=endpoint.options)


@pytest.mark.parametrize("url", ["http://h5dask.invalid/a.h5", "http://127.0.0.1:9/a.h5"])
def test_no_such_host(url: str) -> None:
    with (
        dask.config.set({"h5dask.store-deadline": "1 s"}),
        pytest.raises(StoreUnavailable, match=r"a\.h5: the store gave no answer to use"),
    ):
        h5dask.open_dataset(url)


def test_unknown_scheme() -> None:
    with pytest.raises(NotFound, match=r"ftq://host/a\.h5: unknown scheme 'ftq'"):
        h5dask.open_dataset("ftq://host/a.h5")
