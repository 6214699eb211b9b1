"""FASTA as bytes: any way lines are broken, files that aren't FASTA, whole files or none."""

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from unittest.mock import patch

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5dask.errors import (
    Conflict,
    CorruptInput,
    H5daskError,
    InputChanged,
    LayoutError,
    NotFound,
    Refused,
)
from h5dask.storage import fasta
from h5dask.storage.fasta import Record, records, write_records
from tests.architecture import ROOT


@pytest.fixture
def store(tmp_path: Path) -> Iterator[str]:
    """Folder of an object store in memory."""
    url = f"memory://h5dask-{tmp_path.name}"
    yield url
    with suppress(FileNotFoundError):
        fsspec.filesystem("memory").rm(url, recursive=True)


def told(content: bytes) -> list[tuple[str, str, bytes]]:
    return [(one.name, one.description, one.letters) for one in records(BytesIO(content))]


def oracle(text: str) -> list[tuple[str, str, bytes]]:
    """Parse what has neither comments nor text before the first header."""
    parts = [part.partition("\n") for part in text.replace("\r", "").split(">")[1:]]
    heads = [[*head.split(None, 1), ""] for head, _, _ in parts]
    bodies = ["".join(body.split()).upper().encode() for _, _, body in parts]
    return [(head[0], head[1], body) for head, body in zip(heads, bodies, strict=True)]


WORDS = st.text("abcXYZ019=,._é", min_size=1, max_size=9)
LINES = st.text("ACDxyz*-./ \t", max_size=12)


@given(
    drawn=st.lists(st.tuples(st.lists(WORDS, min_size=1, max_size=3), st.lists(LINES)), min_size=1),
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
    piece=st.integers(1, 40),
)
def test_lines_may_be_broken_anywhere(
    drawn: list[tuple[list[str], list[str]]], end: str, last: bool, piece: int
) -> None:
    lines = [line for words, body in drawn for line in (">" + " ".join(words), *body)]
    text = end.join(lines) + end * last
    with patch.object(fasta, "_PIECE", piece):
        assert told(text.encode()) == oracle(text)


def test_comments_and_blank_lines_are_left_out() -> None:
    content = b"\xef\xbb\xbf; of 2026\n\n>a b  c \n;one\nMK\n \n;two\nV\n>d\n\n>e"
    assert told(content) == [("a", "b  c", b"MKV"), ("d", "", b""), ("e", "", b"")]


def test_where_a_record_begins(tmp_path: Path) -> None:
    for name in ("a.fa", "b.fa"):
        (tmp_path / name).write_bytes(b">one\nMK\n\n>two\nV\n")
    found = list(records(tmp_path / "*.fa"))
    assert [one.name for one in found] == ["one", "two"] * 2
    assert found[3] == Record(
        where=f"{tmp_path}/b.fa: line 4", name="two", description="", letters=b"V"
    )


HOSTILE = [
    (b"", LayoutError, r"found no record; expected FASTA.*copy or download it again"),
    (b"\n \n; nothing\n", LayoutError, "found no record"),
    (b"MKV\n>a\nMKV\n", LayoutError, "line 1: found 'MKV' before the first record; expected FASTA"),
    (b"\nMKV", LayoutError, "line 2: found 'MKV' before the first record"),
    (b">a\nMK\n>\nMK\n", LayoutError, "line 3: found a header without a name"),
    (b">  \nMK\n", LayoutError, "line 1: found a header without a name"),
    (b">a\rMK\r>b\rMK", LayoutError, "line 1: found carriage returns within the line"),
    (b">a\nMKV\nMK1V_2\n", CorruptInput, "line 3: found '1_2' among the letters of 'a'; expected"),
    (b">a\nM>b\n", CorruptInput, "line 2: found '>' among the letters of 'a'"),
    (b">a\nM\xc3\xa9K\n", CorruptInput, "line 2: found 'é' among the letters"),
    (b">a\nM\xffK\n", CorruptInput, r"line 2: found '\\\\xff' among the letters"),
    (b">M\xfcller\nMK\n", CorruptInput, "line 1: found b'M.*ller', which is no text in UTF-8"),
    (b"\x89HDF\r\n\x1a\n\0\0", CorruptInput, "line 1: found .*HDF', which is no text in UTF-8"),
    (b"\x1f\x8b\x08\0", CorruptInput, "line 1: found .* unpack a compressed file"),
    (b"\0" * 99, LayoutError, r"line 1: found '\\x00.* before the first record"),
]


@pytest.mark.parametrize(("content", "error", "text"), HOSTILE)
def test_what_is_no_fasta(
    content: bytes, error: type[H5daskError], text: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.fasta"
    path.write_bytes(content)
    with pytest.raises(error, match=f"^{path}: {text}"):
        list(records(path))


def test_a_line_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fasta, "_LONGEST", 100)
    monkeypatch.setattr(fasta, "_PIECE", 10)
    assert told(b">a\n" + b"M" * 99) == [("a", "", b"M" * 99)]
    with pytest.raises(Refused, match=r"found a line of more than 100 bytes.*break the letters"):
        told(b">a\n" + b"M" * 999)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"a\.fasta: no such file"):
        list(records(tmp_path / "a.fasta"))


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.fasta"
    path.write_bytes(b">a\nMK\n>b\nV\n")
    found = records(path)
    assert next(found).name == "a"
    path.write_bytes(b">a\nMK\n>c\nVV\n")
    with pytest.raises(InputChanged, match=r"a\.fasta: changed since it was opened"):
        list(found)


def test_a_file_is_never_held_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.fasta"
    path.write_bytes((b">a\n" + (b"ACDEFGHIKL" * 6 + b"\n") * 40) * 4000)
    next(records(path))
    tracemalloc.start()
    n_letters = sum(len(one.letters) for one in records(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n_letters == 9_600_000
    assert peak < 5_000_000 < path.stat().st_size


# Writing


def test_pieces_lie_end_to_end(store: str, tmp_path: Path) -> None:
    pieces = [b">a\n", b"", b"MK\n>b", b"\nV\n"]
    for target in (str(tmp_path / "a.fasta"), f"{store}/a.fasta"):
        write_records(iter(pieces), target)
        assert [one.letters for one in records(target)] == [b"MK", b"V"]
        write_records([b">c\n"], target, overwrite=True)
        assert [one.name for one in records(target)] == ["c"]


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.fasta"
    path.write_bytes(b">a\n")
    with pytest.raises(Conflict, match=r"a\.fasta: appeared while it was written"):
        write_records([b">b\n"], path)
    assert (os.listdir(tmp_path), path.read_bytes()) == (["a.fasta"], b">a\n")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=f"^{tmp_path}/x/a.fasta: no such file"):
        write_records([], tmp_path / "x" / "a.fasta")


@pytest.mark.parametrize("error", [FileNotFoundError, RuntimeError, KeyboardInterrupt])
def test_what_fails_leaves_the_old_file(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "a.fasta"
    path.write_bytes(b">a\n")

    def pieces() -> Iterator[bytes]:
        yield b">b\n"
        raise error("in a piece")

    with pytest.raises(error, match=r"^in a piece$"):
        write_records(pieces(), path, overwrite=True)
    assert (os.listdir(tmp_path), path.read_bytes()) == (["a.fasta"], b">a\n")


FULL = """
import resource, sys
from h5dask.errors import OutOfSpace
from h5dask.storage.fasta import write_records
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
try:
    write_records([b"M" * 700_000] * 2, sys.argv[1])
except OutOfSpace as error:
    print(error)
"""


def test_a_disk_that_fills(tmp_path: Path) -> None:
    path = tmp_path / "a.fasta"
    ended = subprocess.run(
        [sys.executable, "-c", FULL, str(path)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ended.stdout == (f"{path}: File too large; free some space or choose another target\n")
    assert os.listdir(tmp_path) == []
