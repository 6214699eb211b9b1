"""What `make bench` measures, how much of it and for how long, and which figures come first.

Nothing is run here. What a part leaves out, its program measures when it is run alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.servers import rgw

SECONDS = 35 * 60
"""What all parts may take together, on two cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One program's share: a process of its own, so that none is weighed on by another."""

    title: str
    module: str
    seconds: float
    """After which it is ended; what it measured until then counts."""
    size: str = "256MB"
    repeat: int = 3
    pair: float = 1.0
    """Least seconds of each pair's runs."""
    work: float = 0.0
    """Least seconds of a command, where it can be given more to do."""
    only: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    """Programs without which it is left out, and said to be."""

    def arguments(self) -> list[str]:
        """Return what its program is given."""
        given = ["--size", self.size, "--repeat", str(self.repeat), "--seconds", str(self.pair)]
        given += ["--work", str(self.work)]
        return [*given, *(word for only in self.only for word in ("--only", only))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """A figure of README's picture: where it is found, and what it is called there."""

    layout: str
    what: str
    against: str
    part: str
    case: str
    """With this a case's name begins."""
    peer: str
    """With this the peer's name begins."""


_BENCHMARKS = "tests.benchmarks.bench_"

PARTS = (
    Part(title="Starting", module=f"{_BENCHMARKS}import", seconds=50, pair=0),
    Part(title="Today", module=f"{_BENCHMARKS}today", seconds=210, size="512MB"),
    Part(
        title="Opening",
        module=f"{_BENCHMARKS}open",
        seconds=110,
        only=("opening", "sizes"),
    ),
    Part(title="Reading", module=f"{_BENCHMARKS}read", seconds=240, size="384MB"),
    Part(title="Writing", module=f"{_BENCHMARKS}write", seconds=210, repeat=2),
    Part(title="Statistics", module=f"{_BENCHMARKS}statistics", seconds=240, repeat=2),
    Part(
        title="Neighbors",
        module=f"{_BENCHMARKS}knn",
        seconds=360,
        repeat=2,
        only=("Gaussian D=25,", "Gaussian D=128,", "offset 100 D=128", "100 labels"),
    ),
    Part(
        title="Proteins",
        module=f"{_BENCHMARKS}proteins",
        seconds=240,
        size="500MB",
        repeat=2,
        only=("and pad", "profile", "write"),
    ),
    Part(
        title="Remote",
        module=f"{_BENCHMARKS}remote",
        seconds=170,
        size="128MB",
        repeat=2,
        pair=0,
        only=(
            "open appended.h5, 50 ms",
            "full scan in 4 MiB chunks, 50 ms",
            "narrow chunks, 50 ms",
            "random rows, 50 ms",
            "write, 50 ms",
        ),
        needs=("haproxy", *rgw.PROGRAMS),
    ),
    Part(
        title="Scaling",
        module=f"{_BENCHMARKS}scaling",
        seconds=150,
        repeat=1,
        work=30,
        only=(" 10,000 blocks", "processes summarize"),
    ),
    Part(
        title="Spine",
        module=f"{_BENCHMARKS}spine",
        seconds=55,
        only=("run", "skipping"),
    ),
    Part(
        title="Memory",
        module=f"{_BENCHMARKS}memory",
        seconds=65,
        size="1GB",
        only=("float32 contiguous",),
    ),
)

_TODAY = "h5py [:], numpy float64"
_LOOP = "a loop with h5py and numpy"
_GROUPS = "a loop over groups"
_DASK = "dask over h5py"
ANY = "any layout"

HEADLINES = tuple(
    Headline(layout=layout, what=what, against=against, part=part, case=case, peer=peer)
    for part, layout, what, against, case, peer in (
        ("Today", "activations", "mean, std, min, max", _TODAY, "activations: mean,", "h5py"),
        ("Today", "activations", "contrast vectors", _TODAY, "activations: mean d", "h5py"),
        ("Today", "activations", "to length 1, written", _TODAY, "activations: all", "h5py"),
        ("Today", "activations", "logits' entropy", _TODAY, "activations: ent", "h5py"),
        ("Statistics", "activations", "mean, std, min, max", "xarray on dask",
         "summarize float16 contiguous f", "xarray"),
        ("Reading", "activations", "read", _DASK, "float16 activations", f"{_DASK}, its best"),
        ("Proteins", "proteins", "end to end, padded", _GROUPS, "open, lay", f"{_LOOP}; ours cold"),
        ("Proteins", "proteins", "profiles", _GROUPS, "profile", _LOOP),
        ("Proteins", "proteins", "write", _GROUPS, "write", _LOOP),
        ("Opening", "proteins", "open, unknown", "HDF5, a bare walk", "opening", "the first"),
        ("Today", "ann", "nearest neighbors", _TODAY, "ann:", "h5py"),
        ("Neighbors", "ann", "nearest neighbors", "scikit-learn", "Gaussian D=128, k=10,", "sci"),
        ("Neighbors", "ann", "nearest neighbors", "faiss, in float32",
         "Gaussian D=128, k=10,", "faiss.knn, same"),
        ("Reading", "ann", "read contiguous", "xarray, h5netcdf", "float32 cont",
         "xarray + h5netcdf, chunks"),
        ("Reading", "ann", "read in chunks", "VirtualiZarr", "float32 chun", "VirtualiZarr, ch"),
        ("Reading", "ann", "read gzip, shuffle", _DASK, "float32 gzip", f"{_DASK}, its best"),
        ("Reading", "ann", "read contiguous", "bare preadv loop", "float32 cont", "preadv loop"),
        ("Writing", "ann", "write gzip, shuffle", "h5py", "float32 gzip-4 + sh", "h5py"),
        ("Writing", "ann", "write, in memory", "a plain file", "float32 contiguous, in", "plain"),
        ("Today", "episodes", "mean, std by task", _TODAY, "episodes: mean", "h5py"),
        ("Today", "episodes", "scan for damage", _TODAY, "episodes: NaN", "h5py"),
        ("Remote", ANY, "scan at 50 ms", "h5py over s3fs", "full scan", "h5py"),
        ("Remote", ANY, "scan at 50 ms", "VirtualiZarr", "full scan", "VirtualiZarr"),
        ("Remote", ANY, "random rows at 50 ms", "h5py over s3fs", "1,000 random", "h5py"),
        ("Starting", ANY, "import", "import xarray", "import h5dask", "import xarray"),
    )
)  # fmt: skip
