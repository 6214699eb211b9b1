"""Objects on a filesystem of fsspec's that has no more than the interface."""

from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from h5dask.errors import Conflict, InputChanged, NotFound
from h5dask.storage.stores import Object
from h5dask.storage.stores.finding import object_at
from h5dask.storage.stores.trying import Again


@pytest.fixture
def at(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Object]]:
    """How to come by an object in a folder that is the test's own."""
    folder = f"memory://{request.node.name}"
    yield lambda name: object_at(f"{folder}/{name}")
    memory = fsspec.filesystem("memory")
    if memory.exists(folder):
        memory.rm(folder, recursive=True)


def test_put_and_get(at: Callable[[str], Object], tmp_path: Path) -> None:
    found = at("deep/a.h5")
    mark = found.put(b"0123456789", absent=True)
    assert found.head().nbytes == 10
    assert found.head().mark == mark
    assert found.get(2, 5, mark) == b"234"
    assert found.get(8, 50, mark) == b"89"
    assert found.whole(mark) == b"0123456789"
    local = tmp_path / "local"
    local.write_bytes(b"abc")
    assert found.put(local) != mark
    assert found.whole("") == b"abc"


def test_conditions(at: Callable[[str], Object]) -> None:
    found = at("a.h5")
    mark = found.put(b"first", absent=True)
    with pytest.raises(Conflict, match=r"a\.h5: exists already"):
        found.put(b"second", absent=True)
    second = found.put(b"second", mark=mark)
    with pytest.raises(Conflict, match="was changed by another writer"):
        found.put(b"third", mark=mark)
    found.delete()
    found.delete()
    with pytest.raises(Conflict, match="was changed by another writer"):
        found.put(b"third", mark=second)


def test_an_object_that_changes_its_size(at: Callable[[str], Object]) -> None:
    found = at("a.h5")
    assert not found.pins
    mark = found.put(b"0123456789")
    found.put(b"01234")
    for attempt in (lambda: found.get(3, 9, mark), lambda: found.whole(mark)):
        with pytest.raises(InputChanged, match="changed since it was opened"):
            attempt()


def test_an_answer_that_was_cut(
    at: Callable[[str], Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = at("a.h5")
    mark = found.put(b"0123456789")
    memory = fsspec.get_filesystem_class("memory")
    monkeypatch.setattr(memory, "cat_file", lambda self, path, start=None, end=None: b"012")
    with pytest.raises(Again, match="3 bytes at 0, not 10"):
        found.whole(mark)


def test_names(at: Callable[[str], Object]) -> None:
    for name in ("a.h5", "b.h5", "c.txt", "deep/d.h5"):
        at(name).put(b"")
    before = at("").url
    assert at("*.h5").names() == [f"{before}a.h5", f"{before}b.h5"]
    assert at("**/d.h5").names() == [f"{before}deep/d.h5"]
    assert at("q*").names() == []


def test_what_is_not_there(at: Callable[[str], Object]) -> None:
    at("folder/a.h5").put(b"")
    for attempt in (
        at("b.h5").head,
        lambda: at("b.h5").whole(""),
        lambda: at("b.h5").get(0, 1, ""),
    ):
        with pytest.raises(NotFound, match=r"b\.h5: no such object; check the path"):
            attempt()
    with pytest.raises(NotFound, match="is a folder; name an object in it"):
        at("folder").head()
