"""Dask and xarray over four HDF5 layouts: open, compute in parallel, write back exactly.

Names are imported when they are first used, so that `import h5dask` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "open_dataset": "reading.reader",
    "open_datatree": "reading.reader",
    "open_vectors": "vectors",
    "identify": "reading.reader",
    "validate": "reading.reader",
    "concat": "joining",
    "renumber": "joining",
    "write_dataset": "writing.writer",
    "write_shards": "writing.sharding",
    "write_fasta": "fasta",
    "read_fasta": "fasta",
    "letters": "fasta",
    "write_vectors": "vectors",
    "compute": "losses",
    "connect": "workers",
    "run": "jobs",
    "contrast": "ops.contrasts",
    "covariance": "ops.components",
    "pca": "ops.components",
    "ground_truth": "truth",
    "knn": "ops.neighbors",
    "neighbors_within": "ops.neighbors",
    "fit": "ops.normalization",
    "normalize": "ops.normalization",
    "pad": "ops.padding",
    "profile": "ops.residues",
    "ragged_of": "ops.ragged",
    "take": "ops.ragged",
    "recall": "truth.recalling",
    "repair": "truth.verifying",
    "verify": "truth.verifying",
    "scan": "ops.scanning",
    "split": "ops.splitting",
    "drop_bad_rows": "ops.dropping",
    "logit_statistics": "ops.logits",
    "compare_logits": "ops.logits",
    "summarize": "ops.statistics",
    "write_report": "report",
}

__all__ = [
    "__version__",
    "compare_logits",
    "compute",
    "concat",
    "connect",
    "contrast",
    "covariance",
    "drop_bad_rows",
    "fit",
    "ground_truth",
    "identify",
    "knn",
    "letters",
    "logit_statistics",
    "neighbors_within",
    "normalize",
    "open_dataset",
    "open_datatree",
    "open_vectors",
    "pad",
    "pca",
    "profile",
    "ragged_of",
    "read_fasta",
    "recall",
    "renumber",
    "repair",
    "run",
    "scan",
    "split",
    "summarize",
    "take",
    "validate",
    "verify",
    "write_dataset",
    "write_fasta",
    "write_report",
    "write_shards",
    "write_vectors",
]

if TYPE_CHECKING:
    from h5dask.fasta import letters as letters
    from h5dask.fasta import read_fasta as read_fasta
    from h5dask.fasta import write_fasta as write_fasta
    from h5dask.jobs import run as run
    from h5dask.joining import concat as concat
    from h5dask.joining import renumber as renumber
    from h5dask.losses import compute as compute
    from h5dask.ops.components import covariance as covariance
    from h5dask.ops.components import pca as pca
    from h5dask.ops.contrasts import contrast as contrast
    from h5dask.ops.dropping import drop_bad_rows as drop_bad_rows
    from h5dask.ops.logits import compare_logits as compare_logits
    from h5dask.ops.logits import logit_statistics as logit_statistics
    from h5dask.ops.neighbors import knn as knn
    from h5dask.ops.neighbors import neighbors_within as neighbors_within
    from h5dask.ops.normalization import fit as fit
    from h5dask.ops.normalization import normalize as normalize
    from h5dask.ops.padding import pad as pad
    from h5dask.ops.ragged import ragged_of as ragged_of
    from h5dask.ops.ragged import take as take
    from h5dask.ops.residues import profile as profile
    from h5dask.ops.scanning import scan as scan
    from h5dask.ops.splitting import split as split
    from h5dask.ops.statistics import summarize as summarize
    from h5dask.reading.reader import identify as identify
    from h5dask.reading.reader import open_dataset as open_dataset
    from h5dask.reading.reader import open_datatree as open_datatree
    from h5dask.reading.reader import validate as validate
    from h5dask.report import write_report as write_report
    from h5dask.truth import ground_truth as ground_truth
    from h5dask.truth.recalling import recall as recall
    from h5dask.truth.verifying import repair as repair
    from h5dask.truth.verifying import verify as verify
    from h5dask.vectors import open_vectors as open_vectors
    from h5dask.vectors import write_vectors as write_vectors
    from h5dask.workers import connect as connect
    from h5dask.writing.sharding import write_shards as write_shards
    from h5dask.writing.writer import write_dataset as write_dataset


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'h5dask' has no attribute {name!r}")
    value = getattr(import_module(f"h5dask.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
