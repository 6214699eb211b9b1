"""The dashboard of local workers in a real browser, while they work on our tasks."""

import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

import h5dask
from h5dask.testing import example
from h5dask.workers import connect
from tests import browser

# Names are drawn on canvas; what is drawn comes from the data sources of Bokeh's documents.
NAMES = """() => {
  const found = new Set();
  for (const one of window.Bokeh?.documents ?? [])
    for (const model of one.roots().flatMap((root) => [...root.references()]))
      for (const name of ["name", "all", "key"])
        for (const value of model.data?.[name] ?? model.data?.get?.(name) ?? [])
          found.add(String(value));
  return [...found];
}"""
SEEN = f"(begin) => ({NAMES})().some((name) => name.startsWith(begin))"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A benchmark with enough vectors for many blocks."""
    ds = example("ann")
    path = tmp_path / "large.h5"
    with h5py.File(path, "w") as f:
        for name in ("test", "neighbors", "distances"):
            f[name] = ds[name].values
        f["train"] = np.tile(ds.train.values, (400, 1))
        f.attrs.update(ds.attrs)
    return path


@pytest.mark.browser
@pytest.mark.parametrize("view", ["status", "tasks"])
def test_our_tasks_are_seen_by_name(file: Path, tmp_path: Path, view: str) -> None:
    ds = h5dask.open_dataset(file, chunks={"vector": 300})
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            h5dask.write_dataset(ds, tmp_path / "written.h5", overwrite=True)
            h5dask.validate(tmp_path / "written.h5", values=True)

    with connect(workers=2) as client:
        at = client.dashboard_link.removesuffix("status") + view
        working = threading.Thread(target=work)
        working.start()
        try:
            with browser.page(reaches=("http://127.0.0.1:", "ws://127.0.0.1:")) as page:
                page.goto(at)
                browser.wait_for_plots(page)
                for begin in ("read-", "write-", "check-"):
                    page.wait_for_function(SEEN, arg=begin)
        finally:
            over.set()
            working.join(timeout=120)
    assert not working.is_alive()
