"""The ways in which stages and sentences are shown: bars, lines, JSON lines, or warnings alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any, Protocol

from h5dask.words import nbytes_in_words, seconds_in_words


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """How far a stage is at one moment."""

    stage: str
    """Its name."""
    number: int
    """Counts the stages of a run, from 0."""
    seconds: float
    """Since it began."""
    done: int
    """Blocks that are done."""
    n_blocks: int | None
    """Blocks that there are; None: nobody knows."""
    nbytes: int | None
    """Bytes of all blocks; None: nobody knows."""
    about: Mapping[str, str] = field(default_factory=dict)
    """Of which input and output it is, where that is known."""

    @property
    def fraction(self) -> float | None:
        """What part of it is done."""
        return self.done / self.n_blocks if self.n_blocks else None

    @property
    def nbytes_done(self) -> int | None:
        """Bytes of the blocks that are done."""
        if self.nbytes is None or self.fraction is None:
            return None
        return round(self.nbytes * self.fraction)

    @property
    def remaining(self) -> float | None:
        """Seconds that it will take at the present rate."""
        part = self.fraction
        return self.seconds * (1 - part) / part if part else None

    def as_json(self) -> dict[str, Any]:
        """Return it as values that JSON can hold."""
        return {
            "stage": self.stage,
            "seconds": round(self.seconds, 3),
            "done": self.done,
            "n_blocks": self.n_blocks,
            "nbytes": self.nbytes,
            "nbytes_done": self.nbytes_done,
            **self.about,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A sentence about what goes on."""

    text: str
    """For a person; "" where a program alone is told."""
    event: str = "say"
    """What it is about: "say", "outcome", "warning" or "error"."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What it says, for a program."""
    warns: bool = False
    """Whether a person must be told who asked for quiet."""


class Display(Protocol):
    """What shows stages; each of its functions takes next to no time."""

    @property
    def every(self) -> float | None:
        """Seconds between calls of `move`; None: it is never called."""

    def begin(self, moment: Moment) -> None:
        """Show that a stage has begun."""

    def move(self, moment: Moment) -> None:
        """Show how far it is."""

    def end(self, moment: Moment, *, failed: bool) -> None:
        """Show that it is over."""

    def say(self, said: Said) -> None:
        """Show a sentence."""

    def close(self) -> None:
        """Leave the terminal as it was found."""


class Nothing:
    """Shows nothing."""

    every = None

    def begin(self, moment: Moment) -> None:
        """Show nothing."""

    def move(self, moment: Moment) -> None:
        """Show nothing."""

    def end(self, moment: Moment, *, failed: bool) -> None:
        """Show nothing."""

    def say(self, said: Said) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Do nothing."""


class Warnings(Nothing):
    """Shows the sentences that warn, and nothing else."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def say(self, said: Said) -> None:
        """Show a sentence that warns."""
        if said.warns:
            _write(self._stream, said.text)


@dataclass
class Lines:
    """Shows a line where a stage turns out not to be short, every few seconds, and at its end."""

    stream: IO[str]
    """Where lines go."""
    every: float = 1.0
    """Seconds that a short stage takes at most, of which nothing is shown."""
    between: float = 10.0
    """Seconds between lines."""
    shown: dict[int, float] = field(default_factory=dict)
    """Stages under way of which something was shown, and at which of their seconds."""

    def begin(self, moment: Moment) -> None:
        """Show nothing yet."""

    def move(self, moment: Moment) -> None:
        """Show a stage's name and size, later how far it is and what is left."""
        before = self.shown.get(moment.number)
        if before is None:
            self._show(f"{moment.stage}: {_size(moment) or 'begun'} ...")
        elif moment.seconds < before + self.between:
            return
        else:
            self._show(f"{moment.stage}: {', '.join(_state(moment))}")
        self.shown[moment.number] = moment.seconds

    def end(self, moment: Moment, *, failed: bool) -> None:
        """Show how long it took."""
        if self.shown.pop(moment.number, None) is not None:
            rate = "" if failed else _rate(moment)
            how = "failed after" if failed else "done in"
            self._show(f"{moment.stage}: {how} {moment.seconds:,.1f} s{rate and f', {rate}'}")

    def say(self, said: Said) -> None:
        """Show a line of text."""
        if said.text:
            self._show(said.text)

    def close(self) -> None:
        """Do nothing."""

    def _show(self, text: str) -> None:
        _write(self.stream, text)


@dataclass
class JsonLines:
    """Shows lines of JSON, those of short stages too, for whoever reads them by program."""

    stream: IO[str]
    """Where lines go."""
    every: float = 10.0
    """Seconds between lines."""

    def begin(self, moment: Moment) -> None:
        """Show what is known of a stage."""
        self._tell("begin", **moment.as_json())

    def move(self, moment: Moment) -> None:
        """Show how far it is."""
        self._tell("progress", **moment.as_json())

    def end(self, moment: Moment, *, failed: bool) -> None:
        """Show what was done."""
        self._tell("failed" if failed else "end", **moment.as_json())

    def say(self, said: Said) -> None:
        """Show a sentence with all that it says."""
        self._tell(said.event, text=said.text, **said.fields)

    def close(self) -> None:
        """Do nothing."""

    def _tell(self, event: str, **fields: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        _write(self.stream, json.dumps({"time": now, "event": event, **fields}, default=str))


class Bars:
    """Shows bars on a terminal, which go when their stage is over."""

    every = 0.2

    def __init__(self, stream: IO[str]) -> None:
        from rich.console import Console

        self._console = Console(file=stream, highlight=False)
        self._live: Any = None
        self._bars: dict[int, Any] = {}

    def begin(self, moment: Moment) -> None:
        """Add a bar."""
        if self._live is None:
            # What the verb itself prints goes to stdout as ever, not through the bars.
            self._live = _live(self._console)
            self._live.start()
        self._bars[moment.number] = self._live.add_task(moment.stage, total=None, told="")
        self.move(moment)

    def move(self, moment: Moment) -> None:
        """Bring a bar up to date."""
        self._live.update(
            self._bars[moment.number],
            completed=moment.done,
            total=moment.n_blocks,
            told="  ".join(_state(moment)),
        )

    def end(self, moment: Moment, *, failed: bool) -> None:  # noqa: ARG002
        """Remove a bar."""
        self._live.remove_task(self._bars.pop(moment.number))
        if not self._bars:
            self.close()

    def say(self, said: Said) -> None:
        """Show a line of text above the bars."""
        if said.text:
            self._console.print(said.text, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Remove all bars and show the cursor again."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            self._bars = {}


def _write(stream: IO[str], line: str) -> None:
    with suppress(OSError, ValueError):  # whoever closed the stream doesn't want to know
        stream.write(line + "\n")
        stream.flush()


def _live(console: Any) -> Any:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[told]}", markup=False, style="dim"),
        console=console,
        transient=True,
        redirect_stdout=False,
    )


def _size(moment: Moment) -> str:
    parts = [] if moment.n_blocks is None else [_counted(moment.n_blocks, "block")]
    return ", ".join(parts if moment.nbytes is None else [*parts, nbytes_in_words(moment.nbytes)])


def _state(moment: Moment) -> list[str]:
    """Return blocks, bytes, rate, and time that is left, as far as they are known."""
    told = []
    if moment.n_blocks is None:
        told.append(_counted(moment.done, "block"))
    else:
        told.append(f"{moment.done:,} of {_counted(moment.n_blocks, 'block')}")
    if moment.nbytes is not None and moment.nbytes_done is not None:
        told.append(f"{nbytes_in_words(moment.nbytes_done)} of {nbytes_in_words(moment.nbytes)}")
    if rate := _rate(moment):
        told.append(rate)
    if moment.remaining is not None:
        told.append(f"{seconds_in_words(moment.remaining)} left")
    return told


def _rate(moment: Moment) -> str:
    if not moment.nbytes_done or moment.seconds <= 0:
        return ""
    return f"{nbytes_in_words(moment.nbytes_done / moment.seconds)}/s"


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
