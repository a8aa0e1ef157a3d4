"""`models`: which there are, and what is inside one."""

from __future__ import annotations

import argparse

from captioning.commands.shared import Subparsers, add_json, print_json, report_download, wants_json
from captioning.core.types import plain_dict


def add(commands: Subparsers) -> None:
    """Add the command, `models info`, and their flags."""
    models = commands.add_parser("models", help="list the models, or look inside one")
    models.set_defaults(run=_list_models)
    add_json(models)
    inside = models.add_subparsers(metavar="info ID")
    info = inside.add_parser("info", help="what is inside a model")
    info.add_argument("model")
    add_json(info)
    info.set_defaults(run=_model_info)


def _list_models(options: argparse.Namespace) -> int:
    from captioning.models import list_families, list_models

    rows = [plain_dict(spec) | {"capabilities": plain_dict(spec.capabilities)} for spec in list_models()]
    if wants_json(options):
        print_json(rows)
        return 0
    for row in rows:
        size = (
            f"{row['download_bytes'] / 1e6:,.0f} MB to download" if row["download_bytes"] else "ships with the program"
        )
        print(f"{row['model_id']:45} {row['family']:20} {size}")
    untrained = [f"untrained:{name}" for family in list_families() for name in family.untrained_names]
    print(f"Also: any folder or hub name of these families, and {', '.join(untrained)}.")
    return 0


def _model_info(options: argparse.Namespace) -> int:
    from captioning.captions.model_report import info_document, memory_by_part
    from captioning.serving.loading import load_captioner

    info = load_captioner(options.model, report=report_download).info()
    if wants_json(options):
        print_json(info_document(info))
        return 0
    print(
        f"{info.spec.title}: {info.parameters:,} parameters in {len(info.arrays)} arrays, "
        f"{info.precision} on {info.device}"
    )
    print("\nParts")
    for part in memory_by_part(info):
        print(f"  {part.name:32} {part.role:22} {part.arrays:5} arrays {part.elements:13,} elements")
    print("\nLayers")
    for kind, count in info.layer_types.items():
        print(f"  {count:4} {kind}")
    print("\nShapes")
    for step, shape in info.shapes:
        print(f"  {step:24} {list(shape)}")
    print("\nArrays")
    for array in info.arrays:
        print(f"  {array.name:64} {'×'.join(map(str, array.shape)) or 'scalar':16} {array.elements:11,} {array.dtype}")
    return 0
