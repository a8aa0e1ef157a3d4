"""A folder of files that say where a model looked: a picture a word, and every format of attention."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from captioning.attention.export import trace_from_json
from captioning.attention.formats import FORMATS, Paint, Scene, draw_word, draw_words
from captioning.attention.views import TRACED, AttentionView, Head, check_positions, default_view, map_tokens
from captioning.captions.words import word_groups, word_text
from captioning.core.contract import Captioner
from captioning.core.errors import OptionsError
from captioning.core.formats import find_format
from captioning.core.types import Caption, ModelSpec, Picture
from captioning.core.whole_files import write_whole

_VIEW_FILE = find_format(FORMATS, "json").file


def choose_view(spec: ModelSpec, method: str | None, layer: int | str | None, head: int | str | None) -> AttentionView:
    """Return the view that measured best for a model, with the given changes; layer "mean" is all of them.

    Raises `OptionsError` where layer or head belong to no method that has them.
    """
    first = default_view(spec)
    if method is None and layer is None and head is None:
        return first
    chosen = method or (first.method if first.method in TRACED else "attention")
    base = first if chosen == first.method else AttentionView(chosen)
    if chosen not in TRACED and (layer is not None or head is not None):
        raise OptionsError(f"{chosen} has no layers and heads to choose from; leave them out, or take attention.")
    return AttentionView(
        chosen, _asked_layer(layer, base), _asked_head(head, base), base.measured and (layer, head) == (None, None)
    )


def _asked_layer(layer: int | str | None, base: AttentionView) -> int | None:
    if isinstance(layer, str):
        if layer != "mean":
            raise OptionsError(f"There is no layer {layer!r}; choose a number from 0 on, or mean.")
        return None
    return base.layer if layer is None else layer


def _asked_head(head: int | str | None, base: AttentionView) -> Head:
    if head is None:
        return base.head
    if isinstance(head, str) and head not in ("mean", "max"):
        raise OptionsError(f"There is no head {head!r}; choose a number from 0 on, mean or max.")
    return "max" if head == "max" else "mean" if isinstance(head, str) else head


def find_positions(caption: Caption, word: str | None, position: int | None) -> tuple[int, ...]:
    """Return the positions of a word wherever it stands, or of one token, or of all tokens.

    Raises `OptionsError` for a word or a position that the caption does not have.
    """
    if position is not None:
        return tuple(check_positions(caption, [position]))
    if word is None:
        return tuple(range(len(caption.token_ids)))
    groups = {group: word_text(caption, group) for group in word_groups(caption)}
    found = [at for group, text in groups.items() if text.casefold() == word.strip().casefold() for at in group]
    if not found:
        raise OptionsError(
            f"The caption has no word {word!r}; choose from {', '.join(dict.fromkeys(groups.values()))}."
        )
    return tuple(found)


def look(
    captioner: Captioner, picture: Picture, caption: Caption, view: AttentionView, paint: Paint | None = None
) -> Scene:
    """Trace a caption and map all its tokens. Raises what `trace` and `map_tokens` raise."""
    (features,) = captioner.encode([picture])
    trace = captioner.trace(features, caption)
    computed = {}
    if view.method not in TRACED:
        computed[view.method] = map_tokens(captioner, picture, caption, view.method)
    return Scene(picture, captioner.spec, trace, view, paint or Paint(), computed)


def write_files(scene: Scene, folder: Path) -> list[Path]:
    """Write a PNG a token and every format that shows more than one; return which ones.

    What an earlier call wrote into the folder is replaced: pictures of other words do not stay. Pictures are of the
    scene's positions, on the scale of all; numbers and page hold every token. Raises `OSError` where the folder cannot
    be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in _earlier_pictures(folder):
        (folder / name).unlink(missing_ok=True)
    formats = [known for known in FORMATS if known.name != "png"]
    # The saved view first: it names the pictures, so that the next call finds them also when this one is interrupted.
    for known in sorted(formats, key=lambda known: known.file != _VIEW_FILE):
        write_whole(folder / known.file, known.make(scene))
    words = draw_words(scene)
    for word in words:
        write_whole(folder / _picture_name(word.positions[0], word.label), draw_word(scene, word))
    names = [_picture_name(word.positions[0], word.label) for word in words]
    return [folder / name for name in (*names, *(known.file for known in formats))]


def _earlier_pictures(folder: Path) -> Iterator[str]:
    """Yield the names of the pictures that an earlier call may have written, as its saved view tells."""
    try:
        caption = trace_from_json((folder / _VIEW_FILE).read_text(encoding="utf-8")).trace.caption
    except (OSError, UnicodeDecodeError, OptionsError):
        return  # no folder of ours, or none that can be told from one
    for position, token in enumerate(caption.tokens):
        yield _picture_name(position, token)


def _picture_name(position: int, label: str) -> str:
    """Return a file name for the picture of one token, which any system allows."""
    return f"{position:02d}-{re.sub(r'[^a-z0-9]+', '-', label.lower()).strip('-') or 'token'}.png"
