"""Every form of file that the layouts name, and every rule that a file can break."""

from itertools import chain
from pathlib import Path

import pytest

from h5dask import layouts
from h5dask.grouping import arrange
from h5dask.problem import Problem
from tests.files import LAYOUTS
from tests.files.broken import BROKEN, REFUSED
from tests.files.variant import Variant
from tests.layouts.reading import contents, structure, taken, value_problems


def cases(groups: dict[str, dict[str, Variant]]) -> list[object]:
    return [
        pytest.param(name, variant, id=f"{name}-{key}")
        for name, variants in groups.items()
        for key, variant in variants.items()
    ]


VARIANTS = cases({name: module.VARIANTS for name, module in LAYOUTS.items()})


def said(problems: tuple[Problem, ...], level: str) -> list[str]:
    return [str(problem) for problem in problems if problem.level == level]


def names_all(words: tuple[str, ...], lines: list[str]) -> bool:
    return all(any(word in line for line in lines) for word in words)


@pytest.mark.parametrize(("name", "variant"), [*VARIANTS, *cases(BROKEN), *cases(REFUSED)])
def test_structure_is_judged(name: str, variant: Variant, tmp_path: Path) -> None:
    variant.write(tmp_path / "f.h5")
    told = structure(layouts.get(name), tmp_path / "f.h5")
    problems = said(told, "problem")
    assert names_all(variant.problems, problems)
    assert bool(problems) == bool(variant.problems)
    assert all(line.startswith("f.h5") for line in said(told, "problem") + said(told, "note"))


@pytest.mark.parametrize(
    ("name", "variant"),
    [*VARIANTS, *(p for p in cases(BROKEN) if p.values[1].value_problems)],
)
def test_values_are_judged(name: str, variant: Variant, tmp_path: Path) -> None:
    layout = layouts.get(name)
    variant.write(tmp_path / "f.h5")
    told = tuple(value_problems(layout, tmp_path / "f.h5"))
    problems = said(told, "problem")
    assert names_all(variant.value_problems, problems)
    assert bool(problems) == bool(variant.value_problems)
    every = (*told, *structure(layout, tmp_path / "f.h5"))
    assert names_all(variant.notes + variant.value_notes, said(every, "note"))


@pytest.mark.parametrize(("name", "variant"), cases(REFUSED))
def test_what_cannot_be_read_is_refused_in_one_line(
    name: str, variant: Variant, tmp_path: Path
) -> None:
    variant.write(tmp_path / "f.h5")
    found = contents(tmp_path / "f.h5")
    (misfit,) = arrange(layouts.get(name), found).misfits
    assert (misfit,) == structure(layouts.get(name), tmp_path / "f.h5")
    assert variant.problems[0] in str(misfit)


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_groups_are_found_in_their_labels(name: str, variant: Variant, tmp_path: Path) -> None:
    layout = layouts.get(name)
    variant.write(tmp_path / "f.h5")
    found = contents(tmp_path / "f.h5")
    arrangement = arrange(layout, found)
    assert arrangement.misfits == ()
    if layout.labels is None or layout.groups is None:
        assert layout.group_keys == ()
        return
    labels = layout.labels(arrangement.groups, found)
    groups = layout.groups(labels, found)
    assert groups.keys == arrangement.groups.keys
    for dim, counts in arrangement.groups.counts.items():
        assert groups.counts[dim].tolist() == counts.tolist()
        assert [*chain.from_iterable(taken(groups, dim))] == list(range(int(counts.sum())))
    for variable in arrangement.variables:
        lead = groups.shapes[variable.name]
        for path, shape in zip(variable.paths[0], lead, strict=True):
            whole = found.shape(path) if path else None
            n_trailing = len(variable.spec.stored_dims) - 1
            if whole and (variable.spec.group_keys == layout.group_keys or shape != (0,)):
                assert whole[: len(whole) - n_trailing] == shape
    if layout.index is not None:
        layout.index(labels, arrangement.sizes)
