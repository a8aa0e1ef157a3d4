"""A table in whatever format → rows of cells: text with separators, JSON, JSON lines or Parquet."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from captioning.core.errors import DataError
from captioning.core.settings import get_settings
from captioning.media.legacy_text import decode_text

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".parquet"})
LONE_TABLE_SUFFIXES = TABLE_SUFFIXES | {".json", ".txt"}
"""The same, and what is a table only where it is named by itself: among pictures such files say something else."""
_JSON_LINES = frozenset({".jsonl", ".ndjson"})
_SEPARATORS = (",", ";", "\t", "|")
_STATED = re.compile(r'\A\s*"?sep=(.)"?[ \t]*\r?\n', re.IGNORECASE)
"""A first line that tells a spreadsheet the separator."""

Cell = str | bytes
"""A text, or the file of a picture that the table itself holds."""
Row = list[Cell]


def read_rows(path: Path, title: str = "", *, quotes: bool = True, bounded: bool = True) -> list[Row]:
    """Read the rows of a table that are not blank; those of JSON and Parquet begin with the names of the columns.

    Without `quotes`, quotation marks have no meaning in text. Raises `DataError` for what is no table or, where it is
    `bounded`, larger than a picture may be.
    """
    title = title or path.name
    suffix = path.suffix.lower()
    limit = get_settings().max_upload_bytes
    try:
        if bounded and path.stat().st_size > limit:
            raise DataError(f"{title} has more than {limit / 2**20:,.0f} MB; that is no table of pictures.")
        if suffix == ".parquet":
            return _read_parquet(path, title)
        text = decode_text(path.read_bytes())
    except OSError as error:
        raise DataError(f"{title} cannot be read ({error.strerror or 'input error'}).") from error
    if "\0" in text:
        raise DataError(f"{title} is no text; save the table as CSV in UTF-8.")
    if suffix == ".json" or suffix in _JSON_LINES:
        return _to_rows(_read_json(text, title, suffix in _JSON_LINES))
    return _read_text(text, title, quotes)


def find_column(head: Row, names: Sequence[str]) -> int | None:
    """The first column that has one of the names, whose case, blanks and signs do not count: `Image Path` is one word.

    Names are given as plain words, the likeliest first.
    """
    plain = [plain_title(cell) for cell in head]
    return next((plain.index(name) for name in names if name in plain), None)


def plain_title(cell: Cell) -> str:
    """A column's name without case, blanks and signs."""
    return re.sub(r"[\W_]", "", cell.lower()) if isinstance(cell, str) else ""


def _read_text(text: str, title: str, quotes: bool) -> list[Row]:
    stated = _STATED.match(text)
    if stated is not None:
        separator, text = stated[1], text[stated.end() :]
    else:
        head = next((line for line in io.StringIO(text) if line.strip()), "")
        separator = max(_SEPARATORS, key=_outside_quotes(head).count)
        if separator not in _outside_quotes(head):
            separator = "\t"  # one column, whose names may hold commas
    try:
        lines = io.StringIO(text, newline="")
        rows = list(csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE))
    except csv.Error as error:
        raise DataError(f"{title} is no table that can be read ({error}); save it as CSV in UTF-8.") from error
    return [list(row) for row in rows if any(cell.strip() for cell in row)]


def _outside_quotes(line: str) -> str:
    return re.sub('"[^"]*"', "", line)


def _read_json(text: str, title: str, is_lines: bool) -> list[dict[str, Any]]:
    """The objects of a JSON list, of the first list within an object, or of one line each."""
    try:
        if is_lines:
            records = [json.loads(line) for line in text.split("\n") if line.strip()]
        else:
            value = json.loads(text)
            lists = [part for part in value.values() if _holds_objects(part)] if isinstance(value, dict) else [value]
            records = lists[0] if lists and isinstance(lists[0], list) else []
    except json.JSONDecodeError as error:
        raise DataError(
            f"{title} is no JSON that can be read ({error.msg} in {error.doc[:40].strip()!r}); write one object a line."
        ) from error
    except (ValueError, RecursionError) as error:  # numbers of very many digits, and lists within lists
        raise DataError(f"{title} is no JSON that can be read; write one object a line.") from error
    objects = [{"path": record} if isinstance(record, str) else record for record in records]
    if not all(isinstance(record, dict) for record in objects):
        raise DataError(f"{title} holds no objects with named values; write one object a line.")
    return objects


def _holds_objects(part: object) -> bool:
    return isinstance(part, list) and bool(part) and all(isinstance(one, dict) for one in part)


def _to_rows(records: Sequence[dict[str, Any]]) -> list[Row]:
    columns = list(dict.fromkeys(name for record in records for name in record))
    if not columns:
        return []
    return [[*columns], *([_as_cell(record.get(name)) for name in columns] for record in records)]


def _as_cell(value: object) -> Cell:
    """A value as a cell; of a picture as data sets hold them, its file where that is there, else its path."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path") or ""
    if isinstance(value, str | bytes):
        return value
    return "" if value is None else str(value)


def _read_parquet(path: Path, title: str) -> list[Row]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(
            f"{title} is Parquet, which the package pyarrow reads; install it with `pip install pyarrow` (the extra "
            "`data`), or save the table as CSV."
        ) from error
    settings = get_settings()
    try:
        with parquet.ParquetFile(path) as file:
            about = file.metadata
            unpacked = sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups))
            if unpacked > settings.zip_bytes:
                raise DataError(
                    f"{title} unpacks to {unpacked / 2**20:,.0f} MB; the limit is {settings.zip_bytes / 2**20:,.0f} MB "
                    "(CAPTIONSCOPE_ZIP_BYTES). Split it."
                )
            return _to_rows(list(_records(file)))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{title} is damaged or no Parquet that can be read; write it again.") from error


def _records(file: Any) -> Iterator[dict[str, Any]]:
    for batch in file.iter_batches(256):
        yield from batch.to_pylist()
