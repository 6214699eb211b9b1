"""What of many inputs can be opened, together or one by one, before any work is begun."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from h5dask.jobs.several import BAD_INPUT, UNFORESEEN, lacking, sources_of, why_not
from h5dask.jobs.steps import NothingToDo
from h5dask.storage.remote import UrlPath

if TYPE_CHECKING:
    import xarray as xr


def openable(
    inputs: UrlPath | Iterable[UrlPath],
    opened: Callable[[list[str]], xr.Dataset],
    storage_options: Mapping[str, Any] | None = None,
) -> Iterator[xr.Dataset]:
    """Yield what `--plan` tells of: all inputs as one Dataset, or one each where they don't join.

    Of an input that a run would set aside a warning tells.

    Parameters
    ----------
    inputs : path, URL, glob, or iterable of them
        As the steps take them.
    opened : callable
        Opens some of them as one Dataset, as the steps do.
    storage_options : mapping, optional
        What fsspec needs to reach a store.

    Examples
    --------
    >>> import h5dask
    >>> from h5dask.testing import example_file
    >>> [dict(ds.sizes) for ds in openable(example_file("ann"), h5dask.open_dataset)]
    [{'vector': 30, 'feature': 4, 'query': 5, 'neighbor': 3, 'label': 2}]
    """

    def tried(urls: list[str]) -> xr.Dataset | Exception:
        try:
            return opened(urls)
        except (*BAD_INPUT, *UNFORESEEN) as error:
            return error

    urls = [source.url for source in sources_of(inputs, storage_options)]
    if not urls:
        raise NothingToDo(lacking(str(inputs)))
    together = tried(urls)
    if isinstance(together, Exception):
        each = {url: tried([url]) for url in urls}
        for url, one in each.items():
            if isinstance(one, Exception):
                warnings.warn(f"set aside: {why_not(url, one)}", UserWarning, stacklevel=2)
        fit = {url: one for url, one in each.items() if not isinstance(one, Exception)}
        together = tried(list(fit)) if len(fit) < len(urls) and fit else together
        if isinstance(together, Exception):
            yield from fit.values()
            return
    yield together
