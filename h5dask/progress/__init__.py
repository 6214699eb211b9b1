"""What a person watches while a computation runs, and what is remembered of it."""

from __future__ import annotations

import itertools
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Self

from h5dask.progress.displays import (
    Bars,
    Display,
    JsonLines,
    Lines,
    Moment,
    Nothing,
    Said,
    Warnings,
)

if TYPE_CHECKING:
    from h5dask.progress.counting import Tally

_LOGGER = logging.getLogger("h5dask")


@dataclass(frozen=True, slots=True)
class StageRecord:
    """What is remembered of a stage that was completed."""

    name: str
    """What the stage did."""
    seconds: float
    """From its beginning to its end."""
    n_blocks: int
    """Blocks that were done."""
    nbytes: int | None
    """Bytes of those blocks; None where nobody knew."""
    n_tasks: int
    """Tasks that were done for it."""

    def as_json(self) -> dict[str, Any]:
        """Return it as values that JSON can hold."""
        return asdict(self)


class Progress:
    """Shows the stages of a run and records them.

    Parameters
    ----------
    display : Display
        What shows them.

    Examples
    --------
    >>> import dask.array as da
    >>> with watch(quiet=True) as progress, progress.stage("add", n_blocks=4, nbytes=32):
    ...     float(da.ones(4, chunks=1).sum().compute())
    4.0
    >>> [(record.name, record.n_blocks) for record in progress.records]
    [('add', 4)]
    """

    def __init__(self, display: Display) -> None:
        self._display = display
        self._about: Mapping[str, str] = {}
        self._records: list[StageRecord] = []
        self._numbers = itertools.count()
        self._listener = _Listener(self)
        self._level = logging.NOTSET

    def __enter__(self) -> Self:
        self._level = _LOGGER.level
        _LOGGER.setLevel(min(logging.INFO, _LOGGER.level or logging.INFO))
        _LOGGER.addHandler(self._listener)
        return self

    def __exit__(self, *error: object) -> None:
        _LOGGER.removeHandler(self._listener)
        _LOGGER.setLevel(self._level)
        self._display.close()

    @property
    def records(self) -> tuple[StageRecord, ...]:
        """The stages that were completed, in the order in which they ended."""
        return tuple(self._records)

    def say(self, text: str) -> None:
        """Show a line about what is going on."""
        self.tell(Said(text=text))

    def tell(self, said: Said) -> None:
        """Show a sentence, to a program with its fields and those of `about`."""
        fields = {name: _plain(x) if isinstance(x, str) else x for name, x in said.fields.items()}
        fields = {**self._about, **fields}
        self._display.say(replace(said, text=_plain(said.text), fields=fields))

    @contextmanager
    def about(self, **fields: str) -> Iterator[None]:
        """Tell a program inside of which input and output stages and sentences are.

        Examples
        --------
        >>> import sys
        >>> with watch(log_json=True, stream=sys.stdout) as progress, progress.about(output="a.h5"):
        ...     progress.say("Resting ...")
        {"time": "...", "event": "say", "text": "Resting ...", "output": "a.h5"}
        """
        before = self._about
        self._about = {name: _plain(text) for name, text in fields.items()}
        try:
            yield
        finally:
            self._about = before

    @contextmanager
    def stage(
        self,
        name: str,
        *,
        n_blocks: int | None = None,
        nbytes: int | None = None,
        counted: str = "",
    ) -> Iterator[None]:
        """Show how far the computations inside are, under any scheduler; record the stage.

        Parameters
        ----------
        name : str
            What is done, in a few words.
        n_blocks : int, optional
            Blocks that there are; counted as the computation goes where it isn't known before.
        nbytes : int, optional
            Their bytes.
        counted : str
            How the names of the tasks begin that do a block each. Where there are none, and
            without it, the part of all tasks that is done stands for the part of the blocks.
        """
        from h5dask.progress.counting import Tally, counting

        name, tally = _plain(name), Tally()
        moment = partial(
            _moment,
            tally,
            stage=name,
            number=next(self._numbers),
            started=time.perf_counter(),
            n_blocks=n_blocks,
            nbytes=nbytes,
            prefix=counted,
            about=self._about,
        )
        failed = True
        self._display.begin(moment())
        try:
            with _ticking(self._display, moment), counting(tally, counted):
                yield
            failed = False
        finally:
            last = moment()
            self._display.end(last, failed=failed)
        n = last.done if n_blocks is None else n_blocks
        self._records.append(StageRecord(name, last.seconds, n, nbytes, tally.done))


def _plain(text: str) -> str:
    """Return a line whose URLs tell nothing that only their owner may know."""
    if "://" not in text:
        return text
    from h5dask.storage.stores.told import plain

    return " ".join(plain(word) if "://" in word else word for word in text.split(" "))


def watch(
    *, quiet: bool = False, log_json: bool = False, stream: IO[str] | None = None
) -> Progress:
    """Return a progress that suits who watches: bars on a terminal, else lines now and then.

    Parameters
    ----------
    quiet : bool, default False
        Show what was set aside, and nothing else.
    log_json : bool, default False
        Show lines of JSON: time and event, and of which input and output. The events of a stage
        ("begin", "progress", "end", "failed") have its name, seconds, blocks and bytes; the others
        ("say", "outcome", "warning", "error") a text, and an outcome what came out, and why.
    stream : text file, optional
        Where it is shown; stderr without it.

    Examples
    --------
    >>> import sys
    >>> with watch(stream=sys.stdout) as progress:
    ...     progress.say("Resting ...")
    Resting ...
    """
    shown = stream or sys.stderr
    if quiet:
        return Progress(Warnings(shown))
    if log_json:
        return Progress(JsonLines(shown))
    return Progress(Bars(shown) if shown.isatty() and _can_move() else Lines(shown))


def silent() -> Progress:
    """Return a progress that shows nothing, but still records.

    Examples
    --------
    >>> silent().records
    ()
    """
    return Progress(Nothing())


def _moment(
    tally: Tally,
    *,
    stage: str,
    number: int,
    started: float,
    n_blocks: int | None,
    nbytes: int | None,
    prefix: str,
    about: Mapping[str, str],
) -> Moment:
    exact = bool(prefix and tally.n_counted)
    done, n = (tally.counted, tally.n_counted) if exact else (tally.done, tally.n_tasks)
    if n_blocks is not None and not exact:
        done = n_blocks * done // n if n else 0
    blocks = n_blocks if n_blocks is not None else n or None
    return Moment(
        stage=stage,
        number=number,
        seconds=time.perf_counter() - started,
        done=done if blocks is None else min(done, blocks),
        n_blocks=blocks,
        nbytes=nbytes,
        about=about,
    )


@contextmanager
def _ticking(display: Display, moment: Callable[[], Moment]) -> Iterator[None]:
    """Show again and again how far a stage is, from a thread of its own."""
    if display.every is None:
        yield
        return
    over, every = threading.Event(), display.every

    def tick() -> None:
        while not over.wait(every):
            display.move(moment())

    ticking = threading.Thread(target=tick, name="h5dask-progress", daemon=True)
    ticking.start()
    try:
        yield
    finally:
        over.set()
        ticking.join()


def _can_move() -> bool:
    """Return whether the terminal can move its cursor."""
    return os.environ.get("TERM", "") not in ("", "dumb")


class _Listener(logging.Handler):
    """Shows what the package says through `logging`."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.INFO)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        self._progress.say(record.getMessage())
