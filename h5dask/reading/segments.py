"""The table of segments that says which dataset holds which rows, while it is filled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from h5dask.chunkindex import FileIndex
from h5dask.contents import ArrayForm, Contents
from h5dask.storage.array import ABSENT, Segments


class SegmentTable:
    """Columns of a `Segments`, while they are filled."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.sources: list[int] = []
        self.offsets: list[list[int]] = []
        self.form_ids: list[list[int]] = []
        self.paths: list[list[str | None]] = []
        self.forms: dict[ArrayForm, int] = {}
        self.shapes: dict[tuple[int, int], tuple[int, ...]] = {}
        self.indexes: dict[tuple[int, int], Any] = {}
        self.inline: dict[tuple[int, int], bytes] = {}

    def add(
        self,
        lane: int,
        contents: Contents,
        index: FileIndex,
        paths: Sequence[str | None],
        dtype: str,
    ) -> None:
        """Append the datasets of one lane of one file; `dtype` is that of rows without any."""
        while len(self.offsets) <= lane:
            self.offsets.append([])
            self.form_ids.append([])
            self.paths.append([])
        first = len(self.offsets[lane])
        positions = contents.positions(paths)
        absent = [at < 0 or 0 in contents.shapes[at] for at in positions]
        self.paths[lane] += paths
        if any(absent):
            lacking = self.forms.setdefault(ArrayForm(dtype=dtype, type=b""), len(self.forms))
        ids = dict.fromkeys({contents.form_of[at] for at in positions if at >= 0}, -1)
        for of in ids:
            ids[of] = self.forms.setdefault(contents.forms[of], len(self.forms))
        offsets = index.offsets.tolist()
        for segment, (at, gone) in enumerate(zip(positions, absent, strict=True), first):
            self.offsets[lane].append(ABSENT if gone else offsets[at])
            self.form_ids[lane].append(lacking if gone else ids[contents.form_of[at]])
            if not gone and offsets[at] < 0:
                key = (lane, segment)
                self.shapes[key] = contents.shapes[at]
                if at in index.chunked:
                    self.indexes[key] = index.chunked[at]
                if at in index.inline:
                    self.inline[key] = index.inline[at]

    def segments(self, heap_bases: Sequence[int]) -> Segments:
        """Return the finished table."""
        return Segments(
            starts=np.cumsum([0, *self.rows], dtype=np.int64),
            sources=np.array(self.sources, np.int32),
            offsets=np.array(self.offsets, np.int64),
            forms=np.array(self.form_ids, np.int32),
            heap_bases=np.array(heap_bases, np.int64),
            shapes=self.shapes,
            paths=tuple(tuple(lane) for lane in self.paths),
            indexes=self.indexes,
            inline=self.inline,
        )
