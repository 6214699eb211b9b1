"""Pipelines whose inputs and outputs lie in a store: what they make is what they make on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import h5dask
from h5dask.testing import example
from pipelines import (
    clean_episodes,
    contrast_activations,
    embed_activations,
    ground_truth,
    merge_campaign,
)
from tests.bucket import Bucket
from tests.files.proteins import VARIANTS
from tests.files.same import differences

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*left out of the joined Dataset:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*unknown attribute:UserWarning"),
]


@pytest.fixture
def landing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder; runs keep their state beside it."""
    monkeypatch.setenv("H5DASK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "landing").mkdir()
    return tmp_path / "landing"


def settings(bucket: Bucket, patch: pytest.MonkeyPatch) -> str:
    """Return the table by which the store is reached, the secret as a variable's name."""
    patch.setenv("SECRET_OF_A_TEST", bucket.options["secret"])
    given = {**bucket.options, "secret": "${SECRET_OF_A_TEST}"}
    tables = {name: one for name, one in given.items() if isinstance(one, dict)}
    lines = ["[storage_options]"]
    lines += [f"{name} = {json.dumps(one)}" for name, one in given.items() if name not in tables]
    for name, one in tables.items():
        lines += [f"{name} = {_inline(one)}"]
    return "\n".join(lines)


def _inline(value: Any) -> str:
    if not isinstance(value, dict):
        return json.dumps(value)
    return "{" + ", ".join(f"{name} = {_inline(one)}" for name, one in value.items()) + "}"


def made(
    main: Callable[[list[str]], int], text: str, landing: Path, bucket: Bucket, patch: Any
) -> list[str]:
    """Run a pipeline on disk and in the store, and again there; return what the store holds."""
    for path in landing.iterdir():
        bucket.place(f"landing/{path.name}", path.read_bytes())
    file, table = landing.parent / "job.toml", settings(bucket, patch)
    file.write_text(text.replace("@", str(landing.parent)))
    assert main([str(file), "--quiet"]) == 0
    file.write_text(f"{text.replace('@', bucket.url)}\n{table}\n")
    for _ in range(2):
        assert main([str(file), "--quiet"]) == 0
    assert sorted(os.listdir(landing.parent / "cache" / "runs")) == []
    names = bucket.names()
    secrets = [bucket.options[name].encode() for name in ("key", "secret")]
    for name in names:
        assert not [one for one in secrets if one in bucket.content(name)], name
    local = {
        str(path.relative_to(landing.parent))
        for path in landing.parent.rglob("*")
        if path.is_file() and path.relative_to(landing.parent).parts[0] not in ("cache", "job.toml")
    }
    assert set(names) == local
    return names


def same(bucket: Bucket, folder: Path, name: str) -> None:
    """Compare a file in the store with that on disk."""
    fetched = folder / "cache" / "fetched.h5"
    fetched.write_bytes(bucket.content(name))
    assert differences(folder / name, fetched) == []


def test_episodes(landing: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2):
        h5dask.write_dataset(example("episodes", number), landing / f"{number}.h5")
    text = 'landing = "@/landing"\noutput = "@/out"\n[clean]\nmerge = "all.h5"'
    names = made(clean_episodes.main, text, landing, bucket, monkeypatch)
    assert {"out/all.h5", "out/parts/0.h5", "out/report.html"} < set(names)
    for name in ("out/all.h5", "out/parts/1.h5"):
        same(bucket, landing.parent, name)


def test_activations(landing: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    h5dask.write_dataset(example("activations"), landing / "a.h5")
    text = 'landing = "@/landing"\noutput = "@/out"'
    names = made(contrast_activations.main, text, landing, bucket, monkeypatch)
    assert {"out/contrasts/a.nc", "out/contrasts/a.npy", "out/reports/a.html"} < set(names)
    same(bucket, landing.parent, "out/normalized/a.h5")
    found = bucket.content("out/contrasts/a.npy")
    assert found == (landing.parent / "out/contrasts/a.npy").read_bytes()


def test_embeddings(landing: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2):
        h5dask.write_dataset(example("activations", number), landing / f"{number}.h5")
    text = 'landing = "@/landing"\noutput = "@/out"\n[search]\nk = 2\ntest_size = 3'
    names = made(embed_activations.main, text, landing, bucket, monkeypatch)
    assert {"out/episodes/0.h5", "out/episodes.html", "out/benchmark.html"} < set(names)
    for name in ("out/episodes/1.h5", "out/benchmark.h5"):
        same(bucket, landing.parent, name)


def test_a_benchmark(landing: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    np.save(landing / "base.npy", rng.standard_normal((200, 5)).astype("f4"))
    np.save(landing / "labels.npy", np.arange(200) % 3)
    text = (
        'output = "@/made.h5"\nsample = 10\n'
        '[base]\nfile = "@/landing/base.npy"\nlabels = "@/landing/labels.npy"\n'
        "[search]\nk = 3\ntest_size = 20"
    )
    names = made(ground_truth.main, text, landing, bucket, monkeypatch)
    assert {"made.h5", "made.html", "made.h5.run.json"} < set(names)
    same(bucket, landing.parent, "made.h5")


def campaign(landing: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> str:
    """Merge two files of a campaign on disk and in the store; return the pipeline's config."""
    for name, variant in (("a", "newer_grid"), ("b", "campaign_with_logits")):
        VARIANTS[variant].write(landing / f"{name}.h5")
    text = 'landing = "@/landing"\noutput = "@/out"\nsettle = 0.0'
    # What the layout doesn't know is read from the inputs once more, by whom the environment names.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", bucket.options["key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", bucket.options["secret"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.options["endpoint_url"])
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    names = made(merge_campaign.main, text, landing, bucket, monkeypatch)
    assert {"out/merged.csv", "out/merged.h5", "out/padded.zarr/zarr.json"} < set(names)
    same(bucket, landing.parent, "out/merged.h5")
    fasta = bucket.content("out/sequences.fasta")
    assert fasta == (landing.parent / "out/sequences.fasta").read_bytes()
    return text


def test_a_campaign(landing: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign(landing, bucket, monkeypatch)


@pytest.mark.soak  # test_merge_campaign.py lets one on disk grow in every run
def test_a_campaign_that_grows(
    landing: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = campaign(landing, bucket, monkeypatch)
    VARIANTS["campaign"].write(landing / "c.h5")
    bucket.place("landing/c.h5", (landing / "c.h5").read_bytes())
    made(merge_campaign.main, text, landing, bucket, monkeypatch)
    same(bucket, landing.parent, "out/merged.h5")
