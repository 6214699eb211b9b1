"""Archives of numpy columns in every state that a crash, a disk or an enemy may leave them in."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def damage(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def rewrite(path: Path) -> None:
        path.write_bytes(change(path.read_bytes()))

    return rewrite


def columns(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def rewrite(path: Path) -> None:
        with np.load(path, allow_pickle=False) as held:
            found = dict(held)
        change(found)
        with path.open("wb") as out:
            np.savez(out, **found)

    return rewrite


def head(**changed: Any) -> Callable[[Path], None]:
    def change(found: dict[str, Any]) -> None:
        text = json.loads(found["json"].tobytes().decode())
        found["json"] = np.frombuffer(json.dumps({**text, **changed}).encode(), np.uint8)

    return columns(change)


def hostile(path: Path) -> None:
    """Put in its place an archive whose arrays are pickles."""
    with path.open("wb") as out:
        np.savez(out, json=np.array([os.system], object), allow_pickle=True)


def folder(path: Path) -> None:
    """Put a folder in its place."""
    path.unlink()
    path.mkdir()


RNG = np.random.default_rng(0)
DAMAGED: dict[str, Callable[[Path], None]] = {
    "empty": damage(lambda b: b""),
    "random": damage(lambda b: RNG.bytes(len(b))),
    "text": damage(lambda b: b"<html>"),
    **{
        f"cut at {part:.0%}": damage(lambda b, part=part: b[: int(len(b) * part)])  # type: ignore[misc]
        for part in (0.01, 0.3, 0.6, 0.9, 0.999)
    },
    **{
        f"byte {part:.0%}": damage(
            lambda b, at=part: (  # type: ignore[misc]
                b[: int(len(b) * at)]
                + bytes([b[int(len(b) * at)] ^ 0xFF])
                + b[int(len(b) * at) + 1 :]
            )
        )
        for part in (0.1, 0.35, 0.5, 0.75)
    },
    "pickles": hostile,
    "folder": folder,
    "other archive": columns(lambda found: found.clear()),
    "column gone": columns(lambda found: found.__delitem__("offsets")),
    "column short": columns(lambda found: found.update(offsets=found["offsets"][:-1])),
    "ranks short": columns(lambda found: found.update(ranks=found["ranks"][:-1])),
    "forms gone": head(forms=[]),
    "forms odd": head(forms=[{}]),
    "no object": head(attrs=[]),
}
