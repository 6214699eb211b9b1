"""README.md says nothing that isn't so: its examples, commands, tables and diagram run as tests."""

import json
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import h5dask
from h5dask import cli
from tests import architecture
from tests.architecture import ROOT
from tests.commands import call
from tests.files import LAYOUTS

README = (ROOT / "README.md").read_text("utf-8")
FILES = {
    "activations": "minilm_tree_form_4_samples.h5",
    "proteins": "proteinmpnn_published_two_models.h5",
    "ann": "digits_int8_euclidean_labels.hdf5",
    "episodes": "minilm_docstring_sentences_300.h5",
}
"""Files that have all that the table's calls name."""
NOT_OURS = ("read_streaming_results", "concatenate_all_structures")
"""Functions of the documents that aren't part of any package here."""


def sections() -> dict[str, str]:
    """Return the text of each section by its title."""
    parts = re.split(r"^## (.+)$", README, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def fenced(language: str, text: str = README) -> list[str]:
    """Return the code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands(program: str) -> list[list[str]]:
    """Return the words of every line of a shell that calls a program."""
    lines = [line for block in fenced("console") for line in block.splitlines()]
    words = [shlex.split(line.removeprefix("$ ")) for line in lines]
    return [rest for first, *rest in words if first == program]


def calls() -> Iterator[tuple[str, str, str]]:
    """Yield layout, old call and ours of each row of the layouts' tables."""
    for layout in LAYOUTS:
        for line in sections()[layout].splitlines():
            found = re.fullmatch(r"\| `(.+?)` \| `(.+?)`.* \|", line)
            if found:
                yield layout, found.group(1), found.group(2)


def examples() -> dict[str, list[str]]:
    """Return the blocks of Python of each section that has some, the first screen's under ""."""
    start = README.partition("\n## ")[0]
    found = {title: fenced("python", text) for title, text in {"": start, **sections()}.items()}
    return {title: blocks for title, blocks in found.items() if blocks}


@pytest.mark.parametrize("title", examples())
def test_examples_run(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in examples()[title]:
        exec(compile(block, f"README.md, {title}", "exec"), names)
    written = [path for path in tmp_path.iterdir() if path.suffix in {".h5", ".hdf5"}]
    assert written
    for path in written:
        assert h5dask.validate(path, values=True) == ()


def test_every_layout_has_a_page() -> None:
    named = re.findall(r"^\| \[`(\w+)`\]\(#(\w+)\) \|", README, re.MULTILINE)
    assert named == [(layout, layout) for layout in sections() if layout in LAYOUTS]
    assert {layout for layout, _ in named} == set(LAYOUTS)
    for layout in LAYOUTS:
        page = sections()[layout]
        assert page.lstrip().startswith("Today ")  # what is done without it
        assert fenced("python", page)
        assert fenced("console", page)


@pytest.mark.parametrize(("layout", "old", "ours"), list(calls()))
def test_both_calls_give_the_same(layout: str, old: str, ours: str) -> None:
    path = ROOT / "tests/real" / layout / FILES[layout]
    names = {"path": path, "json": json, "h5dask": h5dask, "ds": h5dask.open_dataset(path)}
    found = eval(ours, names)
    if old.startswith(NOT_OURS):
        assert len(found) > 0
        return
    with h5py.File(path) as f:
        expected = eval(old, {"json": json, "f": f})
    if isinstance(expected, bytes):
        expected = expected.decode()
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)
    else:
        assert found == expected


def test_every_layout_has_calls() -> None:
    assert {layout for layout, _, _ in calls()} == set(LAYOUTS)


@pytest.mark.parametrize("words", commands("h5dask"), ids=" ".join)
def test_commands_run(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = [
        str(tmp_path / word) if before in ("-o", "--sbatch") else word
        for before, word in zip(["", *words], words, strict=False)
    ]
    if words[0] == "demo":  # takes long, and runs elsewhere among the tests
        assert cli.demo.make_context("demo", words[1:]).params["scale"] == 10**9
    else:
        assert call(*words).exit_code == 0


@pytest.mark.parametrize("words", commands("python"), ids=" ".join)
def test_pipelines_run(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    flag, module, *args = words
    assert flag == "-m"
    paths = [str(ROOT / arg) if arg.endswith(".toml") else arg for arg in args]
    assert import_module(module).main(paths) == 0
    assert capsys.readouterr().out


def test_commands_of_make_are_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {words[0] for words in commands("make")} | set(re.findall(r"`make (\w+)`", README))
    assert {"demo", "test"} <= named <= targets


def test_public_names_are_all_there() -> None:
    named = re.findall(r"^\| `(\w+)\(", sections()["What there is"], flags=re.MULTILINE)
    assert set(named) == set(h5dask.__all__) - {"__version__"}


def test_verbs_are_all_there() -> None:
    assert {words[0] for words in commands("h5dask")} == set(cli.main.commands)


def test_diagram_shows_the_floors() -> None:
    (diagram,) = fenced("", sections()["How it is built"])
    floor, shown = 0, set()
    for line in diagram.splitlines():
        floor = int(line[0]) if line[0].isdigit() else floor
        names = re.findall(r"[a-z]+", line[3:].split("  ")[0])
        assert set(names) <= set(architecture.FLOORS[floor]), line
        shown |= set(names)
    folders = {path.parent.name for path in (ROOT / "h5dask").glob("*/*.py")}
    assert {
        folder for folder in folders if len(list((ROOT / "h5dask" / folder).glob("*.py"))) > 1
    } <= shown


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\((?!https)([^)]+)\)", README):
        anchors = {title.lower().replace(",", "").replace(" ", "-") for title in sections()}
        assert link[1:] in anchors if link.startswith("#") else (ROOT / link).is_file()
