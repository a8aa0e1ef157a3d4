"""What a model's arrays add up to: its parts, their memory, and the whole as JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from captioning.core.formats import Format
from captioning.core.types import ModelInfo, ParameterArray, plain_dict

ARRAY_COLUMNS = ("model", "name", "shape", "dtype", "elements", "bytes")
_ITEM_BYTES: Mapping[str, int] = {
    "float64": 8, "int64": 8, "float32": 4, "int32": 4, "float16": 2, "bfloat16": 2, "int16": 2,
}  # fmt: skip
_LOOKS = ("vision", "visual", "image")
_WRITES = ("text", "language", "lm_head", "decoder")
_JOINS = ("project", "proj", "connector", "enc_to_dec")
_MOST = 0.9


class ModelPart(NamedTuple):
    """Arrays whose names begin alike. `role` says what they do where the name tells, `num_bytes` what they take."""

    name: str
    role: str
    arrays: int
    elements: int
    num_bytes: int


def array_bytes(array: ParameterArray) -> int:
    """Memory that an array takes, in bytes."""
    return array.elements * _ITEM_BYTES.get(array.dtype, 1)


def memory_by_part(info: ModelInfo) -> tuple[ModelPart, ...]:
    """Return the model's parts, largest first, by the first component of the arrays' names.

    A component that holds nearly everything and says nothing of what it does is opened one deeper.
    """
    opened: set[str] = set()
    while True:
        groups = Counter[str]()
        for array in info.arrays:
            groups[_part_of(array.name, opened)] += array.elements
        most = next((name for name, count in groups.items() if count > _MOST * info.parameters), None)
        inner = {_part_of(a.name, opened | {most}) for a in info.arrays} if most is not None else set()
        if most is None or role_of(most) or len(inner) == len(groups):
            break
        opened.add(most)
    parts = []
    for name in groups:
        arrays = [a for a in info.arrays if _part_of(a.name, opened) == name]
        num_bytes = sum(map(array_bytes, arrays))
        parts.append(ModelPart(name, role_of(name, set(groups)), len(arrays), groups[name], num_bytes))
    return tuple(sorted(parts, key=lambda part: -part.num_bytes))


def role_of(name: str, others: set[str] | frozenset[str] = frozenset()) -> str:
    """Return the role of a part in words; empty where its name does not tell."""
    last = name.rpartition(".")[2]
    if any(word in last for word in _JOINS):
        return "from picture to words"
    if any(word in last for word in _LOOKS) or (last == "encoder" and "decoder" in others):
        return "image encoder"
    if any(word in last for word in _WRITES):
        return "text decoder"
    return ""


def info_document(info: ModelInfo) -> dict[str, Any]:
    """All of it as JSON carries it; `shapes` by the name of the step, `parts` with their memory in bytes."""
    return plain_dict(info) | {
        "spec": plain_dict(info.spec) | {"capabilities": plain_dict(info.spec.capabilities)},
        "arrays": [array._asdict() for array in info.arrays],
        "layer_types": dict(info.layer_types),
        "tokenizer": dict(info.tokenizer),
        "shapes": dict(info.shapes),
        "parts": [part._asdict() for part in memory_by_part(info)],
    }


def arrays_to_csv(infos: Sequence[ModelInfo]) -> str:
    """Return the arrays of models as CSV, one a row, with the columns `ARRAY_COLUMNS`; shapes read 3×16×16."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(ARRAY_COLUMNS)
    for info in infos:
        for array in info.arrays:
            shape = "×".join(map(str, array.shape))
            row = (info.spec.model_id, array.name, shape, array.dtype, array.elements, array_bytes(array))
            writer.writerow(row)
    return file.getvalue()


def _part_of(name: str, opened: set[str]) -> str:
    components = name.split(".")
    depth = 1
    while depth < len(components) and ".".join(components[:depth]) in opened:
        depth += 1
    return ".".join(components[:depth])


def _to_json(infos: Sequence[ModelInfo]) -> bytes:
    documents = [info_document(info) for info in infos]
    document = documents[0] if len(documents) == 1 else {"models": documents}
    return json.dumps(document, ensure_ascii=False, indent=2).encode()


FORMATS: tuple[Format[Sequence[ModelInfo]], ...] = (
    Format("json", "JSON", "net.json", "what is inside the models", _to_json),
    Format("csv", "CSV", "arrays.csv", "every array for a spreadsheet", lambda infos: arrays_to_csv(infos).encode()),
)
"""Every file that is made of what is inside models; the name is that of the first."""
