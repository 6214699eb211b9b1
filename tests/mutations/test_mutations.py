"""The list of faults keeps up with the source, and what tells caught from survived tells it."""

from collections.abc import Iterator

import pytest

from tests.architecture import ROOT
from tests.mutations.applying import Copy, Mutation, copied, mutated
from tests.mutations.faults import MUTATIONS

CHEAP = ("blocks.py", "check/structure.py", "jobs/record.py")
"""Files whose faults are caught within seconds: no kernel is compiled, no server started."""


def named(mutation: Mutation) -> str:
    return f"{mutation.file}: {mutation.breaks}"


@pytest.fixture(scope="module")
def copy() -> Iterator[Copy]:
    with copied() as made:
        yield made


@pytest.mark.parametrize("mutation", MUTATIONS, ids=named)
def test_what_a_fault_replaces_stands_exactly_once(mutation: Mutation) -> None:
    whole = (ROOT / "h5dask" / mutation.file).read_text(encoding="utf-8")
    assert mutated(whole, mutation) != whole
    for test in mutation.tests:
        path, _, name = test.partition("::")
        assert f"def {name}" in (ROOT / "tests" / path).read_text(encoding="utf-8")


def test_every_fault_is_another() -> None:
    assert len({(one.file, one.old, one.new) for one in MUTATIONS}) == len(MUTATIONS)


@pytest.mark.parametrize("file", CHEAP)
def test_a_fault_is_caught(file: str, copy: Copy) -> None:
    assert copy.catches(next(one for one in MUTATIONS if one.file == file))


def test_what_changes_nothing_survives_and_the_copy_is_whole_again(copy: Copy) -> None:
    fault = next(one for one in MUTATIONS if one.file == CHEAP[0])
    path = copy.folder / "h5dask" / fault.file
    before = path.read_text(encoding="utf-8"), path.stat().st_mtime_ns
    harmless = Mutation(
        file=fault.file,
        old=fault.old,
        new=f"{fault.old}  # as it was",
        breaks="",
        tests=fault.tests,
    )
    assert not copy.catches(harmless)
    assert (path.read_text(encoding="utf-8"), path.stat().st_mtime_ns) == before


def test_a_fault_whose_line_is_gone_is_told() -> None:
    gone = Mutation(file="blocks.py", old="no such line", new="", breaks="", tests=())
    with pytest.raises(ValueError, match="found 'no such line' 0 times, expected once"):
        mutated("other lines", gone)
