"""What is set as long as any of several calls is inside, whichever ends last."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Overlapping:
    """A setting of the whole process, shared by calls that overlap, in any threads.

    Examples
    --------
    >>> said = []
    >>> shared = Overlapping(start=lambda: said.append("on"), end=lambda _: said.append("off"))
    >>> with shared.inside(), shared.inside():
    ...     said
    ['on']
    >>> said
    ['on', 'off']
    """

    start: Callable[[], Any]
    """Sets it, when the first call comes in; gives what `end` wants to know."""
    end: Callable[[Any], None]
    """Sets it back, when the last one has gone."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while the two below change."""
    _n_inside: int = 0
    _started: Any = None

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Be one of the calls for which it is set."""
        with self._lock:
            if not self._n_inside:
                self._started = self.start()
            self._n_inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_inside -= 1
                if not self._n_inside:
                    self.end(self._started)
                    self._started = None
