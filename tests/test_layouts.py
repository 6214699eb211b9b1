"""The battery over our four layouts, and the same-file law over every variant of their files."""

from __future__ import annotations

from pathlib import Path

import pytest

import h5dask
from h5dask import layouts
from h5dask.testing import LayoutTests
from tests.files import LAYOUTS
from tests.files.same import differences
from tests.files.variant import Variant


class TestActivations(LayoutTests):
    """Activations and logits of language models."""

    layout = "activations"


class TestProteins(LayoutTests):
    """Sampled protein sequences and logits."""

    layout = "proteins"


class TestAnn(LayoutTests):
    """Vector-search benchmarks."""

    layout = "ann"


class TestEpisodes(LayoutTests):
    """Robot-episode embeddings."""

    layout = "episodes"


def test_every_layout_is_here() -> None:
    tested = {test.layout for test in LayoutTests.__subclasses__()}
    assert set(layouts.names()) <= tested


VARIANTS = [
    pytest.param(layout, variant, id=f"{layout}-{name}")
    for layout, module in LAYOUTS.items()
    for name, variant in module.VARIANTS.items()
]


@pytest.mark.parametrize(("layout", "variant"), VARIANTS)
def test_a_variant_written_back_is_the_same_file(
    layout: str, variant: Variant, tmp_path: Path
) -> None:
    source, target = tmp_path / "a.h5", tmp_path / "b.h5"
    variant.write(source)
    ds = h5dask.open_dataset(source)
    h5dask.write_dataset(ds, target)
    assert differences(source, target) == []
    assert h5dask.identify(target) == layout


@pytest.mark.parametrize(("layout", "variant"), VARIANTS)
def test_a_variant_is_judged_as_its_document_says(
    layout: str, variant: Variant, tmp_path: Path
) -> None:
    path = tmp_path / "a.h5"
    variant.write(path)
    said = [str(problem) for problem in h5dask.validate(path, layout=layout)]
    assert len(variant.problems) == 0 or said
    for word in variant.problems:
        assert any(word in line for line in said), (word, said)
    if not variant.problems:
        assert said == []
    every = h5dask.validate(path, layout=layout, notes=True, values=True)
    for level, words in (("problem", variant.value_problems), ("note", variant.value_notes)):
        lines = [str(p) for p in every if p.level == level]
        for word in words:
            assert any(word in line for line in lines), (word, lines)
    if not (variant.problems or variant.value_problems):
        assert [str(p) for p in every if p.level == "problem"] == []
