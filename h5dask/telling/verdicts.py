"""What validation says of several files, one verdict each. Nothing is printed here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from h5dask.errors import H5daskError
from h5dask.problem import Problem
from h5dask.progress import Progress, silent
from h5dask.reading.reader import open_dataset, validate
from h5dask.storage.remote import expand

if TYPE_CHECKING:
    from h5dask.plan import Figures, Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What validation found in one file."""

    file: str
    """Absolute path or URL."""
    findings: tuple[Problem, ...] = ()
    """Problems, and notes where they were asked for."""
    error: str = ""
    """Why the file could not be judged."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The findings that break a rule."""
        return tuple(one for one in self.findings if one.level == "problem")

    @property
    def notes(self) -> tuple[Problem, ...]:
        """The findings that are worth saying only."""
        return tuple(one for one in self.findings if one.level == "note")

    def lines(self) -> Iterator[str]:
        """Yield a line for each finding."""
        yield from map(str, self.problems)
        yield from (f"note: {note}" for note in self.notes)

    def as_json(self) -> dict[str, Any]:
        """Return it as values that JSON can hold."""
        return {
            "file": self.file,
            "problems": [asdict(problem) for problem in self.problems],
            "notes": [asdict(note) for note in self.notes],
            "error": self.error or None,
        }


def judge(
    files: Iterable[str],
    *,
    layout: str | None = None,
    values: bool = False,
    notes: bool = False,
    progress: Progress | None = None,
) -> Iterator[Verdict]:
    """Yield a verdict for each file; one that can't be read doesn't keep the others from theirs.

    Parameters
    ----------
    files : iterable of str
        Local paths, fsspec URLs, or patterns.
    layout, values, notes
        As in `validate`.
    progress : Progress, optional
        Shows how far the reading of values is.
    """
    watched = progress or silent()
    for file in files:
        try:
            sources = expand(file)
        except H5daskError as error:
            yield Verdict(file=file, error=str(error))
            continue
        for source in sources:
            url = source.url
            try:
                with watched.stage(f"check {url}", nbytes=source.nbytes, counted="check-"):
                    findings = validate(url, layout=layout, values=values, notes=notes)
            except H5daskError as error:
                yield Verdict(file=url, error=str(error))
            else:
                yield Verdict(file=url, findings=findings)


def expected(files: Iterable[str], *, layout: str | None, figures: Figures) -> Iterator[Plan]:
    """Yield what it would take to read and judge every value of each file; no value is read.

    Parameters
    ----------
    files, layout
        As in `judge`.
    figures : Figures
        The machines that would do it.
    """
    from h5dask.ops.cost import reading
    from h5dask.plan import plan_of, stored_forms

    for source in (source for file in files for source in expand(file)):
        ds = open_dataset(source.url, layout=layout)
        cost = reading(ds, stage="check", stored=stored_forms(ds))
        yield plan_of(ds, [cost], figures=figures)


def summary(verdicts: Sequence[Verdict], *, values: bool) -> str:
    """Return one line on all of them.

    Examples
    --------
    >>> summary([Verdict(file="a.h5"), Verdict(file="b.h5", error="not HDF5")], values=True)
    '2 files: no problems; 1 could not be judged'
    """
    n_problems = sum(len(verdict.problems) for verdict in verdicts)
    n_notes = sum(len(verdict.notes) for verdict in verdicts)
    n_errors = sum(bool(verdict.error) for verdict in verdicts)
    if n_errors == len(verdicts):
        return f"{_counted(n_errors, 'file')} could not be judged"
    text = f"{_counted(len(verdicts), 'file')}: {_counted(n_problems, 'problem')}"
    text += f", {_counted(n_notes, 'note')}" if n_notes else ""
    text += f"; {n_errors:,} could not be judged" if n_errors else ""
    return text if values else f"{text} (values not read; --values reads them)"


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}" if n else f"no {noun}s"
