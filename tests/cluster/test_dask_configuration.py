"""The file of all limits: every key is dask's or ours, and says what holds without it."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import dask
import jsonschema
import pytest
import yaml
from dask.utils import parse_bytes, parse_timedelta

from h5dask import blocks
from h5dask.cli import settings
from h5dask.workers.settings import SETTINGS
from tests.architecture import ROOT
from tests.cluster.reading import FOLDER, Document, broken, documents

FILE = FOLDER / "dask.yaml"
(LIMITS,) = documents(FILE)


def beside(module: str, name: str) -> Any:
    """Return a YAML file that comes with a package."""
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None
    return yaml.safe_load((Path(found.origin).parent / name).read_text("utf-8"))


def dask_s_schema() -> Document:
    """Return dask's and distributed's own schema of all that they know."""
    known = {}
    for module in ("dask", "distributed"):
        known.update(beside(module, f"{module}-schema.yaml")["properties"])
    return {"properties": known}


def unknown(config: Mapping[str, Any], schema: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """Yield the keys that a schema doesn't know; where it names none, any may be."""
    known = schema.get("properties")
    for name, value in config.items() if known else ():
        path = f"{at}.{name}".lstrip(".")
        if name not in known:
            yield path
        elif isinstance(value, Mapping):
            yield from unknown(value, known[name], path)


def check(config: Document) -> None:
    """Judge a configuration by dask's own schema."""
    of_dask = {name: value for name, value in config.items() if name != "h5dask"}
    jsonschema.Draft7Validator(dask_s_schema()).validate(of_dask)
    assert list(unknown(of_dask, dask_s_schema())) == [], "dask doesn't know it"


def settings_of_ours() -> dict[str, Any]:
    """Return each setting that the source asks dask for, and its default."""
    found: dict[str, Any] = {"block-size": blocks.BLOCK_SIZE}
    asked = re.compile(r"settings\.(?:nbytes|seconds|number)\(\"([\w-]+)\", (\w+)\)")
    for path in sorted((ROOT / "h5dask").rglob("*.py")):
        text = path.read_text("utf-8")
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for name, default in asked.findall(text):
            found[f"store-{name}"] = getattr(import_module(module), default)
        for name in re.findall(r"config\.get\(\"h5dask\.([\w-]+)\"", text):
            assert name in found, f"{path}: asks for h5dask.{name}; name its default here"
    return found


def amount(told: Any) -> float:
    """Return bytes, seconds or a number, however they are written."""
    if isinstance(told, int | float):
        return told
    in_time = re.fullmatch(r"[\d.]+ *(s|seconds|minutes|hours|days)", told)
    return float(parse_timedelta(told) if in_time else parse_bytes(told))


def test_dask_knows_every_key() -> None:
    check(LIMITS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("distributed.scheduler.worker_ttl", "2 minutes"),
        ("distributed.worker.memory.paus", 0.8),
        ("distributed.limits", {}),
        ("tmp", "/scratch"),
    ],
)
def test_a_key_that_dask_does_not_know(field: str, value: Any) -> None:
    with pytest.raises(AssertionError, match="dask doesn't know it"):
        check(broken(LIMITS, field, value))


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("distributed.scheduler.allowed-failures", "five", "'five' is not of type"),
        ("distributed.scheduler.allowed-failures", -1, "less than the minimum"),
        ("distributed.worker.memory.spill", "much", "'much' is not"),
        ("distributed.worker.lifetime.restart", 3, "3 is not of type"),
    ],
)
def test_a_value_that_dask_does_not_take(field: str, value: Any, told: str) -> None:
    with pytest.raises(jsonschema.ValidationError, match=told):
        check(broken(LIMITS, field, value))


def test_dask_reads_it(tmp_path: Path) -> None:
    (tmp_path / "h5dask.yaml").write_bytes(FILE.read_bytes())
    read = dask.config.collect(paths=[str(tmp_path)], env={})
    assert dask.config.get("distributed.worker.memory.pause", config=read) == 0.8
    assert dask.config.get("h5dask.block-size", config=read) == "16 MiB"


def test_all_settings_of_ours_are_there_with_their_defaults() -> None:
    told, meant = LIMITS["h5dask"], settings_of_ours()
    assert len(meant) > 5
    assert {name: amount(value) for name, value in told.items()} == {
        name: amount(value) for name, value in meant.items()
    }


def test_each_of_ours_is_judged_where_a_verb_begins() -> None:
    assert set(settings.KNOWN) == set(settings_of_ours())
    with dask.config.set(h5dask=LIMITS["h5dask"]):
        settings.refuse_wrong()


def test_what_workers_started_here_are_given_others_are_given_too() -> None:
    for name, value in SETTINGS.items():
        told = dask.config.get(name, config=LIMITS)
        if "environ" in name:
            assert str(told) == value, name
        else:
            assert amount(told) == amount(value), name


def commented() -> str:
    """Return the file with what is only suggested in force."""
    suggested = r"^(\s+)# (require-encryption|tls|  ca-file|  \w+: {cert)"
    return re.sub(suggested, r"\1\2", FILE.read_text("utf-8"), flags=re.MULTILINE)


def test_what_is_suggested_holds_as_well() -> None:
    suggested = yaml.safe_load(commented())
    check(suggested)
    tls = suggested["distributed"]["comm"]["tls"]
    assert set(tls) == {"ca-file", "scheduler", "worker", "client"}
    assert suggested["distributed"]["comm"]["require-encryption"] is True
