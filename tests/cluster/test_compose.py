"""The compose file: by its own specification, and open to this machine alone."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.architecture import ROOT
from tests.cluster.reading import FOLDER, broken, documents, services

FILE = FOLDER / "compose.yaml"


def check(path: Path) -> subprocess.CompletedProcess[str]:
    """Judge a file by the specification of compose, without asking the network."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    return subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)


def test_it_is_as_compose_specifies() -> None:
    told = check(FILE)
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("services.worker.depends_on.store.condition", "service_well", "service_well"),
        ("services.scheduler.port", ["8787"], "port"),
        ("services.worker.deploy.replicas", [2], "replicas"),
    ],
)
def test_broken(tmp_path: Path, field: str, value: Any, told: str) -> None:
    (document,) = documents(FILE)
    path = tmp_path / "compose.yaml"
    path.write_text(yaml.safe_dump(broken(document, field, value)))
    found = check(path)
    assert found.returncode == 1
    assert told in found.stdout


def test_nobody_else_reaches_it() -> None:
    ports = [port for one in services().values() for port in one.get("ports", [])]
    assert ports == ["127.0.0.1:8787:8787"]


def test_ours_have_no_more_rights_than_they_need() -> None:
    for name, one in services().items():
        assert one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert one["mem_limit"], name
        if one["image"] == "h5dask":
            assert one["read_only"] is True
            assert all(volume.endswith("/scratch") for volume in one["volumes"])


def test_secrets_come_from_outside() -> None:
    told = {
        name: value
        for one in services().values()
        for name, value in one["environment"].items()
        if "KEY" in name or "ROOT" in name
    }
    assert set(told) == {
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"
    }  # fmt: skip
    assert set(told.values()) == {"${S3_KEY:?export one}", "${S3_SECRET:?export one}"}


def test_images_of_others_do_not_change() -> None:
    (image,) = {one["image"] for one in services().values()} - {"h5dask"}
    assert image.rpartition(":")[2].startswith("RELEASE.20")


def test_what_is_waited_for_says_when_it_is_ready() -> None:
    for one in services().values():
        for other, wanted in one.get("depends_on", {}).items():
            assert wanted == {"condition": "service_healthy"}
            assert "healthcheck" in services()[other]


def test_what_the_store_is_given_first_is_there() -> None:
    text = (FOLDER / "README.md").read_text("utf-8")
    line = re.compile(r'run --rm -v "\$PWD/(.+):(/\w+):ro" job (.+)$', re.MULTILINE)
    ((folder, at, words),) = line.findall(text)
    verb, given, option, target = shlex.split(words)[1:]
    assert (verb, option) == ("concat", "--output")
    assert (ROOT / folder / given.removeprefix(f"{at}/")).is_file()
    (pattern,) = (word for word in services()["job"]["command"] if word.startswith("s3://"))
    assert fnmatch(target, pattern)
    after = text[text.index(words) :]
    assert "run --rm job\n" in after
