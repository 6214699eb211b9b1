"""Names of structures by number, as a small file of a person's gives them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from h5dask.errors import CorruptInput, LayoutError
from h5dask.storage.remote import expand

_LINE = re.compile(r"([0-9]{1,18})\s*[\t, ]\s*(\S.*)")
_NAMED = 5
"""Bad lines that a message names."""

Found = tuple[str, str, Any]
"""Where something stands, what is to be a number, and what is to be a name."""


def read_names(urlpath: str) -> dict[int, str]:
    r"""Return the names of structures by number.

    Parameters
    ----------
    urlpath : str
        Local path or fsspec URL of a text in UTF-8: a line for each structure with its number, a
        tab, comma or space, and its name; or a JSON object of names by number. Blank lines are
        left out, so is what surrounds a name.

    Raises
    ------
    NotFound, CorruptInput
        The file isn't there, or is no text.
    LayoutError
        Lines are something else, or name a structure again; says all at once.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(f"{folder}/names.tsv").write_text("0\t1O91\n17\t5L33, chain A\n")
    ...     read_names(f"{folder}/names.tsv")
    {0: '1O91', 17: '5L33, chain A'}
    """
    text = "\n".join(_text(source.url, source.read()) for source in expand(urlpath))
    entries = _members(urlpath, text) if text.lstrip().startswith("{") else _lines(text)
    names: dict[int, str] = {}
    first: dict[int, str] = {}
    said = []
    for where, number, name in entries:
        if not (number.isdecimal() and isinstance(name, str) and name.strip()):
            told = repr(number) if name is None else f"{number!r}: {name!r}"
            said.append(f"{where}: found {told}; expected a number and a name")
        elif int(number) in names:
            said.append(f"{where}: found {number!r} again, as in {first[int(number)]}")
        else:
            names[int(number)], first[int(number)] = name.strip(), where
    if not names and not said:
        said = ["found no names; expected one or more"]
    if said:
        more = [f"and {len(said) - _NAMED:,} more"] if len(said) > _NAMED else []
        raise LayoutError(
            f"{urlpath}: {'; '.join([*said[:_NAMED], *more])}; write each as '17<tab>NAME', or all "
            "as a JSON object"
        )
    return names


def _text(url: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorruptInput(
            f"{url}: found {content[error.start : error.end]!r} at byte {error.start:,}; expected "
            "text in UTF-8; convert the file"
        ) from None


def _lines(text: str) -> Iterator[Found]:
    for at, line in enumerate(text.splitlines(), 1):
        if line.strip():
            found = _LINE.fullmatch(line.strip())
            number, name = found.groups() if found else (line[:40], None)
            yield f"line {at:,}", number, name


def _members(url: str, text: str) -> list[Found]:
    """Return the members of a JSON object, also those of one name."""
    try:
        found = json.loads(text, object_pairs_hook=list)
    except json.JSONDecodeError as error:
        raise LayoutError(
            f"{url}: line {error.lineno:,}: found no JSON ({error.msg}); expected an object of "
            "names by number, or a line for each; correct it"
        ) from None
    return [(f"member {at:,}", str(number), name) for at, (number, name) in enumerate(found, 1)]
