"""What a run is asked, what it is while it works, and how it ended."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from h5dask.jobs.record import FOLDERS, Record, beside, shown
from h5dask.jobs.state import State
from h5dask.progress import Progress
from h5dask.storage.remote import Source

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended."""

    output: str
    """What it was to make."""
    what: str
    """"done", "current" (nothing was to be done), "busy" (somebody else is at it), "set aside" (the
    input is bad) or "vanished" (the input is gone)."""
    why: str = ""
    """A sentence, where there is something to say."""
    record: Record | None = None
    """Of this run, or of the earlier one whose output is current."""

    @property
    def files(self) -> tuple[str, ...]:
        """Paths or URLs of the outputs that are there."""
        names = [one["name"] for one in self.record.outputs] if self.record is not None else []
        return tuple(beside(self.output, name) for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When a run works, and what becomes of what was there before."""

    force: bool = False
    """Run even where the output is current, from the beginning."""
    keep: int = 0
    """Former outputs that stay beside the new one, under names with their time."""
    strict: bool = False
    """Of many inputs: stop at the first bad one instead of setting it aside."""
    since: datetime | None = None
    """Of many inputs: leave out those that were last changed before."""
    vanished: Literal["keep", "remove"] = "keep"
    """Of many inputs: what becomes of outputs whose inputs are gone."""


@dataclass(slots=True, eq=False)
class Job:
    """A run while it works: what it reads, where it writes, and what it has to tell."""

    inputs: tuple[Source, ...]
    """What was given, as it was found at the start."""
    output: str
    """Path or URL of the target."""
    parameters: Mapping[str, Any]
    """What was given."""
    progress: Progress
    """What a person watches."""
    state: State
    """Which steps are done."""
    former: Record | None = None
    """Of the run that made the output there, by the same work and parameters."""
    counts: Counter[str] = field(default_factory=Counter)
    """What the work counts, for the record."""
    notes: list[str] = field(default_factory=list)
    """What is worth knowing later, for the record."""
    parts: dict[str, str] = field(default_factory=dict)
    """Name of each output that is made -> where it is made."""
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What opens the inputs; no part of the record."""
    output_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What opens the output that is there, where the work goes on with it."""
    n_kept: int = 0
    """Datasets that were kept so far."""
    makes_nothing: bool = False
    """Whether the work has said so."""

    @property
    def urls(self) -> list[str]:
        """The inputs, to open them."""
        return [source.url for source in self.inputs]

    @property
    def added(self) -> list[str] | None:
        """Inputs that the output there isn't made of yet; None where it can't be gone on with.

        It can where the same work made it with the same parameters and version, it is untouched,
        and all that it was made of is here and unchanged.
        """
        if self.former is None:
            return None
        now = {shown(source.url): source.fingerprint for source in self.inputs}
        was = {one["url"]: one["fingerprint"] for one in self.former.inputs}
        if any(now.get(url) != mark for url, mark in was.items()):
            return None
        return list(dict.fromkeys(one.url for one in self.inputs if shown(one.url) not in was))

    def part(self, number: int | None = None, *, ending: str | None = None) -> str:
        """Return where to make the output, or one beside it: `queries-0001.h5`, `queries.npy`.

        A local path, also where outputs are in a store: they are uploaded when all are made.
        """
        stem, own = os.path.splitext(os.path.basename(self.output))
        numbered = "" if number is None else f"-{number:04d}"
        name = f"{stem}{numbered}{own if ending is None else ending}"
        self.parts[name] = self.state.part(name)
        return self.parts[name]

    def write_result(self, ds: xr.Dataset) -> None:
        """Write a Dataset without a layout as the output, in .nc or .zarr; see `write_result`.

        Raises
        ------
        Refused
            As `results.write_result` does; or workers don't share the folder of a .zarr.
        """
        from h5dask.jobs.sharing import refuse_unshared
        from h5dask.results import write_result

        made = self.part()
        with self.stage("write", nbytes=ds.nbytes):
            if made.endswith(FOLDERS):
                refuse_unshared(made, shown(self.output))
            write_result(ds, made, overwrite=True)

    def keep(self, *collections: Any) -> tuple[Any, ...]:
        """Compute Datasets run by run, so that a killed run goes on; see `keeping.keep`.

        It takes the place of `compute` where what is computed takes long and is large. What is
        no Dataset is computed at once, and not kept.
        """
        from xarray import Dataset

        from h5dask.losses import compute
        from h5dask.writing.keeping import keep

        if not all(isinstance(one, Dataset) for one in collections):
            with self.stage("compute"):
                return compute(*collections)
        found = []
        for ds in collections:
            name = f"kept-{self.n_kept:04d}"
            self.n_kept += 1
            with self.stage("compute", nbytes=ds.nbytes):
                found.append(keep(ds, name, self.state.part, self.state))
        return tuple(found)

    def make_nothing(self, why: str) -> None:
        """Say that these inputs give no output, which is as good as one."""
        self.makes_nothing = True
        self.notes.append(why)

    @contextmanager
    def stage(self, name: str, **about: Any) -> Iterator[None]:
        """Time what is done inside, and show how far it is; see `Progress.stage`."""
        with self.progress.stage(name, **about):
            yield

    def write(
        self,
        ds: xr.Dataset,
        number: int | None = None,
        *,
        within_limits: bool = False,
        **options: Any,
    ) -> None:
        """Write a Dataset as the output, or as one of several files, panel by panel.

        Parameters
        ----------
        ds : Dataset
            In a layout's analysis form.
        number : int, optional
            Which file, where there are several.
        within_limits : bool, default False
            Write as many files, numbered from 1, as the layout's consumer needs to take them all;
            one without a number where it takes all as one.
        options
            As in `write_dataset`: layout, like, compression, allow_large.
        """
        from h5dask.writing.preparing import shares
        from h5dask.writing.staging import write_part

        if within_limits:
            parts = shares(ds, self.output, **options)
            for at, part in enumerate(parts, start=1):
                self.write(part, at if len(parts) > 1 else None, **options)
            return
        made = self.part(number)
        url = beside(self.output, self._name_of(made))
        with self.stage("write", nbytes=ds.nbytes, counted="write-"):
            write_part(ds, made, url, self.state, **options)

    def _name_of(self, part: str) -> str:
        return next(name for name, path in self.parts.items() if path == part)
