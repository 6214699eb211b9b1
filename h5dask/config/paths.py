"""Fields that name paths: relative ones start at the config file's folder, inputs must exist.

What a URL names is looked for when it is opened, by the options that a field holds, too.
"""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from h5dask.config.fields import Words


class Unfit(ValueError):
    """A path that can't be what a field names; its text says what was expected."""


@dataclass(frozen=True, slots=True)
class PathMark:
    """Marks text that names a path: a relative one is taken from the config file's folder."""

    exists: bool
    """Whether something must be there."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Let pydantic find and make the path, in the way that it documents for such marks."""
        from pydantic import AfterValidator

        return AfterValidator(self._located).__get_pydantic_core_schema__(source, handler)

    def _located(self, text: str, asked: Any) -> str:
        folder = asked.context["folder"]
        if "://" in text:
            return text
        if not text or "\0" in text:
            raise Unfit("a path")
        path = str(Path(folder, os.path.expanduser(text)))
        if self.exists and not (os.path.exists(path) or any(glob.iglob(path, recursive=True))):
            raise Unfit(
                f"what exists, or a pattern that matches; a relative one starts at {folder}"
            )
        return path


Input = Annotated[str, PathMark(exists=True), Words("a URL, file, folder or pattern that exists")]
"""Type of a field that names files or a folder that must exist, or an fsspec URL."""
Output = Annotated[str, PathMark(exists=False), Words("a path or URL")]
"""Type of a field that names a path to be made, or an fsspec URL."""
StoreOptions = Annotated[dict[str, Any] | None, Words("a table, as fsspec takes it")]
"""Type of a field that says how the stores of all URLs are reached; credentials stand there by
their environment variables, if at all."""
