"""How many tasks are done, counted where they are scheduled; nothing is shown here."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from h5dask.clients import current_client

if TYPE_CHECKING:
    from distributed import SchedulerPlugin

PER_SECOND = 5
"""How often a scheduler tells how far it is."""


@dataclass(slots=True)
class Tally:
    """How far some tasks are; it may be read at any time, from any thread."""

    n_tasks: int = 0
    """Tasks that there are."""
    done: int = 0
    """Those that are done."""
    n_counted: int = 0
    """Tasks whose names begin as asked."""
    counted: int = 0
    """Those of them that are done."""


@contextmanager
def counting(tally: Tally, prefix: str = "") -> Iterator[None]:
    """Count the tasks computed inside, under whatever scheduler dask has.

    On a cluster, tasks of this client only are counted, and one that is done again after its
    worker was lost counts once.

    Parameters
    ----------
    tally : Tally
        It grows while tasks are done.
    prefix : str
        How the names of those tasks begin that are counted apart; "" counts all of them.

    Examples
    --------
    >>> import dask
    >>> tally = Tally()
    >>> with counting(tally, "double"):
    ...     double = dask.delayed(lambda x: 2 * x)
    ...     dask.compute(*(double(i, dask_key_name=f"double-{i}") for i in range(3)))
    (0, 2, 4)
    >>> (tally.counted, tally.n_counted)
    (3, 3)
    """
    with _on_threads(tally, prefix), _on_cluster(tally, prefix):
        yield


@contextmanager
def _on_threads(tally: Tally, prefix: str) -> Iterator[None]:
    from dask.callbacks import Callback

    def begins(key: Any) -> bool:
        return str(key[0] if isinstance(key, tuple) else key).startswith(prefix)

    def start_state(graph: Any, state: Mapping[str, Any]) -> None:
        keys = {*state["ready"], *state["waiting"]}
        tally.n_tasks += len(keys)
        tally.n_counted += sum(map(begins, keys))

    def posttask(key: Any, *rest: Any) -> None:
        tally.done += 1
        tally.counted += begins(key)

    with Callback(start_state=start_state, posttask=posttask):
        yield


@contextmanager
def _on_cluster(tally: Tally, prefix: str) -> Iterator[None]:
    client = current_client()
    if client is None:
        yield
        return
    name = f"h5dask-{uuid.uuid4().hex}"

    def take(event: tuple[float, Mapping[str, int]]) -> None:
        for field, value in event[1].items():
            setattr(tally, field, value)

    client.subscribe_topic(name, take)
    client.register_plugin(_counter(name, client.id, prefix), name=name)
    try:
        yield
    finally:
        if client.status == "running":
            with suppress(OSError, TimeoutError):
                for event in client.get_events(name)[-1:]:
                    take(event)
                client.unregister_scheduler_plugin(name)
                client.unsubscribe_topic(name)


def _counter(topic: str, client_id: str, prefix: str) -> SchedulerPlugin:
    """Return what counts on the scheduler."""
    import time

    from distributed import SchedulerPlugin

    interval = 1 / PER_SECOND

    class Counter(SchedulerPlugin):
        name = topic

        async def start(self, scheduler: Any) -> None:
            self.scheduler = scheduler
            self.open: set[Any] = set()
            self.counts = {"n_tasks": 0, "done": 0, "n_counted": 0, "counted": 0}
            self.told = 0.0

        def begins(self, key: Any) -> bool:
            return str(key[0] if isinstance(key, tuple) else key).startswith(prefix)

        def update_graph(self, *_: Any, client: str, tasks: Any, **__: Any) -> None:
            if client == client_id:
                self.open.update(tasks)
                self.counts["n_tasks"] += len(tasks)
                self.counts["n_counted"] += sum(map(self.begins, tasks))
                self.tell()

        def transition(self, key: Any, start: str, finish: str, *_: Any, **__: Any) -> None:
            del start
            if finish == "memory" and key in self.open:
                self.open.discard(key)
                self.counts["done"] += 1
                self.counts["counted"] += self.begins(key)
                if not self.open or time.monotonic() > self.told + interval:
                    self.tell()

        def tell(self) -> None:
            self.told = time.monotonic()
            self.scheduler.log_event(topic, dict(self.counts))

    return Counter()
