"""Questions that would be waited for without end, and the time after which they are an error."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from h5dask.errors import Unreachable

Result = TypeVar("Result")


def within(seconds: float, ask: Callable[[], Result], subject: str) -> Result:
    """Return the answer to a question that dask itself would wait for without end."""
    answers: list[Result] = []
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            answers.append(ask())
        except BaseException as error:  # noqa: BLE001 - raised in the thread that asked
            errors.append(error)

    waiting = threading.Thread(target=wait, name="h5dask-connect", daemon=True)
    waiting.start()
    waiting.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise Unreachable(
            f"{subject}: no answer within {seconds:.0f} s; look at the workers' logs, or start "
            "them again"
        )
    return answers[0]
