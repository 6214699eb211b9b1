"""The steps of a pipeline while it runs: each is a run, or one for each input; no command."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from h5dask.jobs import Job, Outcome, Policy, run
from h5dask.jobs.record import shown
from h5dask.jobs.several import BAD_INPUT, lacking, run_each
from h5dask.jobs.telling import tell
from h5dask.progress import Progress
from h5dask.storage.remote import UrlPath

Work = Callable[[Job], Any]


class Elsewhere(Exception):
    """Another run is at an output, and makes the rest, too."""


class NothingToDo(Exception):
    """No input is there to work on; its text says why. A pipeline that raises it ends well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The steps of a pipeline while it runs: each is a run, with what its user asked for."""

    policy: Policy
    """When to work, and what becomes of what was there before."""
    progress: Progress
    """What a person watches."""
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """How the stores of all URLs are reached; each job has them, too."""
    outcomes: list[Outcome] = field(default_factory=list)
    """How the steps ended, so far."""

    def each(
        self,
        work: Work,
        inputs: UrlPath | Iterable[UrlPath],
        folder: str,
        ending: str | None = None,
        **parameters: Any,
    ) -> list[str]:
        """Run a work for each input, and return the outputs that are there; see `run_each`."""
        found = run_each(
            work, inputs, folder, ending=ending, parameters=parameters, policy=self.policy,
            progress=self.progress, storage_options=self.storage_options,
        )  # fmt: skip
        if not found and isinstance(inputs, str):
            raise NothingToDo(lacking(inputs))
        return self._made(found)

    def one(
        self, work: Work, inputs: UrlPath | Iterable[UrlPath], output: str, **parameters: Any
    ) -> list[str]:
        """Run a work once, and return the outputs that are there; see `run`."""
        with self.progress.about(output=shown(output)):
            found = run(
                work, inputs, output, parameters=parameters, policy=self.policy,
                progress=self.progress, storage_options=self.storage_options,
            )  # fmt: skip
            tell(found, self.progress)
        return self._made([found])

    def page(self, work: Work, inputs: list[str], output: str, **parameters: Any) -> list[str]:
        """Run a work once that draws a page of all inputs; one that can't be drawn is set aside."""
        try:
            return self.one(work, inputs, output, **parameters)
        except BAD_INPUT as error:
            if self.policy.strict:
                raise
            n = len(inputs)
            what = "can't be drawn" if n == 1 else f"{n} files can't be drawn together"
            why = f"{os.path.basename(output)}: {what}: {_first(str(error))}"
        found = Outcome(output=output, what="set aside", why=why)
        tell(found, self.progress)
        return self._made([found])

    def _made(self, found: Iterable[Outcome]) -> list[str]:
        """Return the outputs of a step; where they aren't all there, there is no next one."""
        ended = list(found)
        self.outcomes.extend(ended)
        if any(one.what == "busy" for one in ended):
            raise Elsewhere
        return [path for one in ended for path in one.files]


def _first(text: str) -> str:
    """Return the first of several lines, and how many follow."""
    first, *others = text.splitlines()
    return f"{first} (and {len(others)} more)" if others else first
