"""The files under cluster/ as those read them who run them, and with one field broken."""

from __future__ import annotations

import copy
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.architecture import ROOT

FOLDER = ROOT / "cluster"
KUBERNETES = sorted((FOLDER / "kubernetes").glob("*.yaml"))
Document = dict[str, Any]


def documents(path: Path) -> list[Document]:
    """Return what a YAML file holds."""
    return list(yaml.safe_load_all(path.read_text("utf-8")))


def resources() -> list[Document]:
    """Return all that Kubernetes is given."""
    return [one for path in KUBERNETES for one in documents(path)]


def named(one: Document) -> str:
    """Return what a resource is called."""
    return f"{one['kind']} {one['metadata']['name']}"


def broken(document: Document, field: str, value: Any) -> Document:
    """Return a copy with one field changed, which is named as "spec.containers.0.image"."""
    changed = copy.deepcopy(document)
    *above, last = field.split(".")
    there: Any = changed
    for name in above:
        there = there[int(name)] if isinstance(there, list) else there[name]
    there[int(last) if isinstance(there, list) else last] = value
    return changed


def found(node: Any, name: str) -> Iterator[Any]:
    """Yield every value under a name, however deep."""
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key == name)
    for value in (
        node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    ):
        yield from found(value, name)


def pods() -> list[Document]:
    """Return the specs of all pods: what has containers."""

    def within(node: Any) -> Iterator[Document]:
        if isinstance(node, dict) and "containers" in node:
            yield node
        elif isinstance(node, dict | list):
            for value in node.values() if isinstance(node, dict) else node:
                yield from within(value)

    return [pod for one in resources() for pod in within(one)]


def containers() -> list[Document]:
    """Return the containers of all pods."""
    return [one for pod in pods() for one in pod["containers"]]


def services() -> dict[str, Document]:
    """Return what runs by compose, with what they share merged in."""
    (document,) = documents(FOLDER / "compose.yaml")
    merged: dict[str, Document] = document["services"]
    return merged


def unit(kind: str) -> list[tuple[str, str, str]]:
    """Return section, name and value of each line of systemd's service or timer."""
    section, lines = "", []
    for line in (FOLDER / "systemd" / f"h5dask@.{kind}").read_text("utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            lines.append((section, name, value))
    return lines


def cron_lines() -> list[tuple[list[str], str]]:
    """Return times and command of each line of the crontab."""
    lines = (FOLDER / "crontab").read_text("utf-8").splitlines()
    entries = [line.split(None, 5) for line in lines if re.match(r"[\d*@]", line)]
    return [(entry[:5], entry[5]) for entry in entries]


def told() -> list[list[str]]:
    """Return the words of the commands of ours that the README names; by compose, too."""
    text = (FOLDER / "README.md").read_text("utf-8")
    lines = re.findall(r"^\$ (?:docker compose .* job )?(h5dask .+)$", text, re.MULTILINE)
    return [shlex.split(line) for line in lines]


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Yield where a command stands and its words, of every file."""
    for words in told():
        yield f"README, {words[1]}", words
    for one in containers():
        yield f"kubernetes, {one['name']}", one["args"]
    for name, service in services().items():
        if "command" in service:
            yield f"compose, {name}", service["command"]
    for _, name, value in unit("service"):
        if name == "ExecStart":
            yield "systemd", shlex.split(value.replace("%i", "clean_episodes"))
    for _, command in cron_lines():
        start, end = command.index(".venv"), command.index(" >")
        yield "crontab", shlex.split(command[start:end])
