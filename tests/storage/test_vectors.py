"""Files of vectors: where rows lie, headers that lie, rows whose count is wrong, parquet."""

import io
import os
import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5dask.errors import CorruptInput, H5daskError, InputChanged, LayoutError, NotFound, Refused
from h5dask.storage import parquet
from h5dask.storage.parquet import parquet_column
from h5dask.storage.region import counted
from h5dask.storage.remote import Source, expand
from h5dask.storage.vectors import FORMATS, IVECS

STORED = {".fbin": "<f4", ".u8bin": "|u1", ".i8bin": "|i1", ".fvecs": "<f4", ".bvecs": "|u1"}


def rows(n: int, d: int, dtype: str) -> np.ndarray:
    return (np.arange(n * d) % 120).astype(dtype).reshape(n, d)


def written(ending: str, values: np.ndarray) -> bytes:
    """Return the bytes of a file, by the formats' own description."""
    if ending.endswith("bin"):
        return struct.pack("<II", *values.shape) + values.tobytes()
    return b"".join(struct.pack("<i", len(row)) + row.tobytes() for row in values)


def of(path: Path, content: bytes) -> Source:
    path.write_bytes(content)
    return expand(path)[0]


def opened(source: Source, ending: str) -> Any:
    with source.open() as file:
        return FORMATS[ending].find(source, file).array(source, "vectors")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[str]:
    """Folder of an object store in memory."""
    url = f"memory://h5dask-{tmp_path.name}"
    yield url
    with suppress(FileNotFoundError):
        fsspec.filesystem("memory").rm(url, recursive=True)


SELECTIONS = [
    np.s_[...],
    np.s_[3],
    np.s_[-1, 2],
    np.s_[2:9],
    np.s_[::3, 1:],
    np.s_[::-1],
    np.s_[[4, 1, 1, 6]],
    np.s_[5:5],
    np.s_[:, -1],
    np.s_[[2, 0], ::2],
]


@pytest.mark.parametrize("ending", STORED)
def test_any_selection_is_numpys(ending: str, tmp_path: Path) -> None:
    expected = rows(11, 5, STORED[ending])
    array = opened(of(tmp_path / f"a{ending}", written(ending, expected)), ending)
    assert (array.shape, array.dtype, array.ndim) == ((11, 5), expected.dtype, 2)
    for key in SELECTIONS:
        found = array[key]
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected[key])


@pytest.mark.parametrize("ending", STORED)
def test_pieces_of_rows(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("h5dask.storage.region.PIECE", 50)
    expected = rows(37, 6, STORED[ending])
    array = opened(of(tmp_path / f"a{ending}", written(ending, expected)), ending)
    for key in (np.s_[:], np.s_[3:30], np.s_[[0, 36, 17]]):
        np.testing.assert_array_equal(array[key], expected[key])


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", "|i1", "|u1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numpys_files(dtype: str, order: str, tmp_path: Path) -> None:
    expected = np.asarray(rows(11, 5, dtype), order=order)
    np.save(tmp_path / "a.npy", expected)
    [source] = expand(tmp_path / "a.npy")
    found = opened(source, ".npy")
    assert found.dtype == expected.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found[:] if order == "C" else found[:].T, expected)


@given(st.integers(0, 5), st.integers(1, 300), st.sampled_from(["f4", "f8", "f2", "i1", "u1"]))
def test_headers_are_numpys(n: int, d: int, dtype: str) -> None:
    saved = io.BytesIO()
    values = np.zeros((n, d), dtype)
    np.save(saved, values)
    header = FORMATS[".npy"].header((n, d), values.dtype)
    assert header + values.tobytes() == saved.getvalue()


@given(st.integers(1, 5), st.integers(1, 9), st.sampled_from(["<f4", "|u1", "<i4"]))
def test_counted_rows_are_those_described(n: int, d: int, dtype: str) -> None:
    values = rows(n, d, dtype)
    assert counted(values, dtype).tobytes() == written(".fvecs", values)


@pytest.mark.parametrize("ending", [*STORED, ".parquet"])
def test_a_read_takes_its_rows_and_little_more(ending: str, tmp_path: Path) -> None:
    values = np.zeros((2**16, 64), STORED.get(ending, "<f4"))
    if ending == ".parquet":
        table = pa.table({"emb": pa.FixedSizeListArray.from_arrays(values.ravel(), 64)})
        pq.write_table(table, tmp_path / "a.parquet", use_dictionary=False)
        array: Any = parquet_column(expand(tmp_path / "a.parquet")[0], "emb")
    else:
        form = FORMATS[ending]
        rows_of = counted(values, values.dtype.str) if form.counted else values
        content = form.header(values.shape, values.dtype) + rows_of.tobytes()
        array = opened(of(tmp_path / f"a{ending}", content), ending)
    array[:3]
    tracemalloc.start()
    found = array[:]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(found, values)
    assert peak <= values.nbytes + (5 << 20)


def test_ids(tmp_path: Path) -> None:
    expected = rows(4, 3, "<i4") - 1
    source = of(tmp_path / "a.ivecs", written(".ivecs", expected))
    with source.open() as file:
        array = IVECS.find(source, file).array(source, "neighbors")
    np.testing.assert_array_equal(array[:], expected)


def test_a_store(store: str) -> None:
    for ending, dtype in STORED.items():
        expected = rows(7, 3, dtype)
        fsspec.filesystem("memory").pipe_file(f"{store}/a{ending}", written(ending, expected))
        [source] = expand(f"{store}/a{ending}")
        np.testing.assert_array_equal(opened(source, ending)[2:6], expected[2:6])


# Headers that lie


@pytest.mark.parametrize("ending", [".fbin", ".u8bin", ".i8bin"])
@pytest.mark.parametrize("change", [-1, 1, -8, 4096])
def test_a_size_that_disagrees_with_the_header(ending: str, change: int, tmp_path: Path) -> None:
    content = written(ending, rows(100, 8, STORED[ending]))
    size, name = len(content), np.dtype(STORED[ending]).name
    lying = content[:change] if change < 0 else content + bytes(change)
    text = (
        f"a{ending}: found {size + change:,} bytes, expected {size:,} for the 100 rows of 8 {name}"
    )
    with pytest.raises(CorruptInput, match=text):
        opened(of(tmp_path / f"a{ending}", lying), ending)


@pytest.mark.parametrize(
    ("head", "text"),
    [
        ((2**32 - 1, 2**32 - 1), "expected 73,786,976,260,4"),
        ((2**31, 4), "expected 34,359,738,376 for the 2,147,483,648 rows of 4 float32"),
        ((10, 0), "found 0 features in its header, expected 1 or more"),
        ((2**32 - 1, 0), "found 0 features"),
        ((0, 3), "expected 8 for the 0 rows of 3 float32"),
    ],
)
def test_a_header_too_large_or_empty(head: tuple[int, int], text: str, tmp_path: Path) -> None:
    content = struct.pack("<II", *head) + bytes(160)
    with pytest.raises(CorruptInput, match=text):
        opened(of(tmp_path / "a.fbin", content), ".fbin")


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("n", [0, 1, 3, 7])
def test_hardly_a_byte(ending: str, n: int, tmp_path: Path) -> None:
    with pytest.raises(CorruptInput, match=rf"a\{ending}: .*(found|numpy can't read)"):
        opened(of(tmp_path / f"a{ending}", bytes(n)), ending)


@pytest.mark.parametrize("d", [0, -1, -(2**31)])
def test_rows_without_values(d: int, tmp_path: Path) -> None:
    content = struct.pack("<i", d) + bytes(16)
    with pytest.raises(CorruptInput, match=f"found {d} features in its header, expected 1 or more"):
        opened(of(tmp_path / "a.fvecs", content), ".fvecs")


@pytest.mark.parametrize("d", [5, 2**31 - 1])
def test_counted_rows_and_a_rest(d: int, tmp_path: Path) -> None:
    content = struct.pack("<i", d) + bytes(21)
    with pytest.raises(CorruptInput, match=f"found 25 bytes, expected a multiple of {4 + 4 * d:,}"):
        opened(of(tmp_path / "a.fvecs", content), ".fvecs")


@pytest.mark.parametrize("count", [6, 0, -4, 2**31 - 1])
def test_a_count_that_differs_in_row_7(count: int, tmp_path: Path) -> None:
    content = bytearray(written(".fvecs", rows(11, 4, "<f4")))
    content[7 * 20 : 7 * 20 + 4] = struct.pack("<i", count)
    array = opened(of(tmp_path / "a.fvecs", bytes(content)), ".fvecs")
    assert array[:7].shape == (7, 4)
    with pytest.raises(CorruptInput, match=f"row 7: found {count} values, expected 4 as in row 0"):
        array[5:]


def test_a_file_that_changes_underneath(tmp_path: Path) -> None:
    for ending, dtype in STORED.items():
        content = written(ending, rows(7, 3, dtype))
        array = opened(of(tmp_path / f"a{ending}", content), ending)
        os.utime(tmp_path / f"a{ending}", ns=(1, 1))
        with pytest.raises(InputChanged, match="changed since it was opened"):
            array[:2]


NPY = "{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n"


def npy(text: str, values: bytes = b"", version: bytes = b"\1\0") -> bytes:
    length = struct.pack("<H" if version == b"\1\0" else "<I", len(text))
    return b"\x93NUMPY" + version + length + text.encode() + values


@pytest.mark.parametrize(
    ("content", "error", "text"),
    [
        (npy(NPY.format(descr="<f4", shape="(9, 2)"), bytes(64)), CorruptInput,
         r"found 1\d\d bytes, expected 1\d\d for the 9 rows of 2 float32"),
        (npy(NPY.format(descr="<f4", shape="(1000000000000, 1000000)")), CorruptInput,
         "for the 1,000,000,000,000 rows of 1,000,000 float32"),
        (npy(NPY.format(descr="<f4", shape="(10**9, 0)")), CorruptInput, "can't read its header"),
        (npy(NPY.format(descr="<f4", shape="(1000000000, 0)")), CorruptInput, "found 0 features"),
        (npy(NPY.format(descr="<f4", shape="(-3, 2)")), LayoutError, r"the shape \(-3, 2\)"),
        (npy(NPY.format(descr="<f4", shape="(8,)"), bytes(32)), LayoutError, r"the shape \(8,\)"),
        (npy(NPY.format(descr="<f4", shape="()"), bytes(4)), LayoutError, r"the shape \(\)"),
        (npy(NPY.format(descr="<i8", shape="(2, 2)"), bytes(32)), LayoutError, "dtype 'int64'"),
        (npy(NPY.format(descr="<c8", shape="(2, 2)"), bytes(32)), LayoutError, "dtype 'complex64'"),
        (npy(NPY.format(descr="<f4,<f4", shape="(2, 2)"), bytes(32)), LayoutError, "'void64'"),
        (npy(NPY.format(descr="<f4", shape="(2, 2)"), bytes(16), b"\2\0"), None, ""),
        (npy(NPY.format(descr="<f4", shape="(2, 2)"), bytes(16), b"\3\0"), CorruptInput,
         r"version \(3, 0\)"),
        (npy("1+" * 4900 + "1"), CorruptInput, "can't read its header"),
        (npy("-" * 9000 + "1"), CorruptInput, "can't read its header"),
        (npy("(((("), CorruptInput, "can't read its header"),
        (npy("{[]: 1}"), CorruptInput, "can't read its header"),
        (b"\x93NUMPY\2\0\xff\xff\xff\xff{}", CorruptInput, "can't read its header"),
        (b"\x89HDF\r\n\x1a\n" + bytes(90), CorruptInput, "can't read its header"),
    ],
)  # fmt: skip
def test_numpys_header(content: bytes, error: Any, text: str, tmp_path: Path) -> None:
    source = of(tmp_path / "a.npy", content)
    if error is None:
        assert opened(source, ".npy").shape == (2, 2)
        return
    with pytest.raises(error, match=rf"a\.npy: .*{text}"):
        opened(source, ".npy")


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "exploded"),)

    np.save(tmp_path / "a.npy", np.array([[Bomb()]], object), allow_pickle=True)
    with pytest.raises(Refused, match=r"found pickled objects .*never loaded"):
        opened(expand(tmp_path / "a.npy")[0], ".npy")
    assert not (tmp_path / "exploded").exists()


@given(st.sampled_from(sorted(FORMATS)), st.binary(max_size=200))
def test_any_bytes_are_rows_or_an_error_of_ours(ending: str, content: bytes) -> None:
    heads = {
        ".npy": npy(NPY.format(descr="<f4", shape="(2, 2)"))[:90],
        ".fbin": b"\2\0\0\0\2\0\0\0",
    }
    for one in (content, heads.get(ending, b"\2\0\0\0") + content):
        [source] = expand(io.BytesIO(one))
        try:
            found = opened(source, ending)[:]
        except H5daskError:
            continue
        assert 0 < found.nbytes <= len(one) or 0 in found.shape


# parquet


def parquet_of(path: Path, **columns: Any) -> Source:
    pq.write_table(pa.table(columns), path, row_group_size=columns.pop("row_group_size", 4))
    return expand(path)[0]


def lists(values: np.ndarray, kind: Any = None) -> Any:
    return pa.array(list(values), kind or pa.list_(pa.from_numpy_dtype(values.dtype)))


KINDS = [
    pa.list_,
    pa.large_list,
    lambda t: pa.list_(t, 5),
]


@pytest.mark.parametrize("kind", KINDS, ids=["list", "large", "fixed"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i1", "u1"])
def test_columns_of_lists(
    kind: Any, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = rows(11, 5, dtype)
    values = lists(expected, kind(pa.from_numpy_dtype(np.dtype(dtype))))
    source = parquet_of(tmp_path / "a.parquet", id=np.arange(11) * 7, emb=values)
    for batch in (2**22, 40):
        monkeypatch.setattr(parquet, "_BATCH_NBYTES", batch)
        column = parquet_column(source, "emb")
        assert (column.shape, column.dtype, column.ends) == ((11, 5), np.dtype(dtype), (4, 8, 11))
        for key in SELECTIONS:
            found = column[key]
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected[key])
        np.testing.assert_array_equal(parquet_column(source, "id")[3:9], np.arange(3, 9) * 7)


def test_ids_that_are_text(tmp_path: Path) -> None:
    source = parquet_of(tmp_path / "a.parquet", id=["ä", "b", "", "d", "e"])
    assert parquet_column(source, "id")[1:].tolist() == ["b", "", "d", "e"]


@pytest.mark.parametrize(
    ("values", "error", "text"),
    [
        ([[1.0, 2.0], [1.0]], LayoutError, "found 3 values in 2 rows, expected lists of one"),
        ([[1.0], [1.0, 2.0, 3.0]], CorruptInput, "row 0: found 1 values, expected 2, the mean"),
        ([[1.0, 2.0], [None, 1.0]], CorruptInput, "emb, row 1: found no value"),
        ([[1.0], None], CorruptInput, "emb, row 1: found no value"),
        ([["a"], ["b"]], None, ""),
        ([{"a": 1}, {"a": 2}], LayoutError, "found values of type 'struct"),
    ],
)
def test_columns_that_are_no_vectors(values: Any, error: Any, text: str, tmp_path: Path) -> None:
    source = parquet_of(tmp_path / "a.parquet", emb=values)
    if error is None:
        assert parquet_column(source, "emb").dtype == object
        return
    with pytest.raises(error, match=text):
        parquet_column(source, "emb")[:]


def test_no_such_column(tmp_path: Path) -> None:
    source = parquet_of(tmp_path / "a.parquet", id=[1], vector=[[1.0]])
    with pytest.raises(NotFound, match="no column 'emb'; there are id, vector"):
        parquet_column(source, "emb")


def test_damaged_parquet(tmp_path: Path) -> None:
    source = parquet_of(tmp_path / "a.parquet", emb=lists(rows(9, 3, "f4")))
    whole = Path(source.url).read_bytes()
    for content in (b"", b"PAR1", whole[:-9], bytes(200), whole[: len(whole) // 2]):
        with pytest.raises(CorruptInput, match=r"a\.parquet: pyarrow can't read it"):
            parquet_column(of(tmp_path / "a.parquet", content), "emb")


def test_parquet_that_changes_underneath(tmp_path: Path) -> None:
    column = parquet_column(parquet_of(tmp_path / "a.parquet", emb=[[1.0]]), "emb")
    os.utime(tmp_path / "a.parquet", ns=(1, 1))
    with pytest.raises(InputChanged, match="changed since it was opened"):
        column[:]


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = parquet_of(tmp_path / "a.parquet", emb=[[1.0]])

    def lacking(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(parquet, "import_module", lacking)
    with pytest.raises(Refused, match=r"a\.parquet: .*pip install 'h5dask\[parquet\]'"):
        parquet_column(source, "emb")
