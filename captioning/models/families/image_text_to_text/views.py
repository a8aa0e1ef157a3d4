"""How each of the families cuts a picture up, and what stands for the pieces in its prompt."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captioning.core.errors import ImageError, ModelFilesError
from captioning.core.types import ModelInput, PatchLayout, Picture
from captioning.models.pixels import PixelRecipe, check_shape, lay_patches

_MAX_MERGED = 1280
"""Tokens of one picture at most: attention to the picture is written out in full and grows with their square."""


class View(ABC):
    """From a picture to what the language model reads of it."""

    @property
    @abstractmethod
    def largest(self) -> PatchLayout:
        """A layout that takes as many tokens as any."""

    @abstractmethod
    def preprocess(self, image: Picture) -> ModelInput:
        """The picture as the family's own processor prepares it, and where its patches lie."""

    @abstractmethod
    def encode(self, model: Any, pixel_values: Tensor) -> Tensor:
        """States `[N, patches, hidden]` in the size of words, in the order of the layout's boxes."""

    def placeholder(self, layout: PatchLayout, image_token: str) -> str:
        """What stands for the picture in the prompt, with one `image_token` for every patch."""
        return image_token * len(layout.boxes)

    def positions(self, model: Any, input_ids: Tensor, is_image: Tensor, layout: PatchLayout) -> Tensor:
        """Positions of the prompt's tokens, `[S]`, or `[3, S]` for time, row and column."""
        return torch.arange(len(input_ids), device=input_ids.device)

    def token_types(self, input_ids: Tensor) -> Mapping[str, Tensor]:
        """What else the model wants to know of the prompt's tokens, `[1, S]` each."""
        return {}


class WholeView(View):
    """LLaVA: one square of equal patches, cropped if the processor crops."""

    def __init__(self, pixels: PixelRecipe, patch_size: int) -> None:
        self._pixels = pixels
        self._patch_size = patch_size
        self._grid = (pixels.shape[0] // patch_size, pixels.shape[1] // patch_size)

    @property
    def largest(self) -> PatchLayout:
        """The only one there is."""
        return PatchLayout.from_grid(*self._grid)

    def preprocess(self, image: Picture) -> ModelInput:
        """The picture resized, and cropped about its centre where the processor says so."""
        values, region = self._pixels.apply(image.image)
        layout = lay_patches(self._grid, (self._patch_size, self._patch_size), self._pixels.shape, region)
        return ModelInput(torch.from_numpy(values), layout)

    def encode(self, model: Any, pixel_values: Tensor) -> Tensor:
        """`[N, 3, H, W]` → `[N, patches, hidden]`."""
        return torch.stack(list(model.get_image_features(pixel_values=pixel_values).pooler_output))


class PaliGemmaView(WholeView):
    """PaliGemma: the same, but the whole prompt sees all of itself, and positions begin with 1."""

    def positions(self, model: Any, input_ids: Tensor, is_image: Tensor, layout: PatchLayout) -> Tensor:
        """1, 2, 3, …"""
        return super().positions(model, input_ids, is_image, layout) + 1

    def token_types(self, input_ids: Tensor) -> Mapping[str, Tensor]:
        """The prompt has type 0, which is seen from everywhere; a caption sees only what is before."""
        return {"token_type_ids": torch.zeros_like(input_ids)[None]}


@dataclass(frozen=True, slots=True, eq=False)
class TiledLayout(PatchLayout):
    """Patches tile by tile, and at last those of the whole picture; `tiles` are rows and columns, 0 where uncut."""

    tiles: tuple[int, int] = (0, 0)


class TiledView(View):
    """Idefics 3 and SmolVLM: a grid of square tiles, row by row, then the whole picture squeezed into one."""

    def __init__(self, processor: Any, tile_size: int, patch_size: int, merge: int) -> None:
        self._processor = processor
        self._patch_size = patch_size
        self._side = tile_size // patch_size // merge
        longest = processor.size["longest_edge"] if processor.do_image_splitting else tile_size
        self._most_tiles = -(-longest // tile_size)

    @property
    def largest(self) -> PatchLayout:
        """A square picture, cut into as many tiles as there can be."""
        most = self._most_tiles if self._most_tiles > 1 else 0
        return self._lay((most, most))

    def preprocess(self, image: Picture) -> ModelInput:
        """Tiles `[tiles, 3, side, side]`; a picture of one tile is not cut."""
        made = self._processor(images=[image.image], return_tensors="np", return_row_col_info=True)
        layout = self._lay((int(made["rows"][0][0]), int(made["cols"][0][0])))
        return ModelInput(torch.from_numpy(np.asarray(made["pixel_values"][0], np.float32)), layout)

    def encode(self, model: Any, pixel_values: Tensor) -> Tensor:
        """`[N, tiles, 3, side, side]` → `[N, patches, hidden]`.

        Through the model's parts: as a whole it takes a tile of nothing but zeros for padding and drops it.
        """
        flat = pixel_values.flatten(0, 1)
        rows, columns = (length // self._patch_size for length in flat.shape[2:])
        is_patch = torch.ones(len(flat), rows, columns, dtype=torch.bool, device=flat.device)
        hidden = model.vision_model(pixel_values=flat, patch_attention_mask=is_patch).last_hidden_state
        states: Tensor = model.connector(hidden)
        return states.reshape(len(pixel_values), -1, states.shape[-1])

    def placeholder(self, layout: PatchLayout, image_token: str) -> str:
        """Every tile behind its row and column, a line break after each row of them, then the whole picture."""
        assert isinstance(layout, TiledLayout)
        patches = image_token * self._side**2
        edge, (rows, columns) = "<fake_token_around_image>", layout.tiles
        lines = [
            "".join(f"{edge}<row_{row + 1}_col_{column + 1}>{patches}" for column in range(columns))
            for row in range(rows)
        ]
        whole = f"{edge}<global-img>{patches}{edge}"
        return "\n".join([*lines, "", whole]) if lines else whole

    def _lay(self, tiles: tuple[int, int]) -> TiledLayout:
        whole = PatchLayout.from_grid(self._side, self._side)
        if tiles == (0, 0):
            return TiledLayout(whole.boxes, whole.grid)
        rows, columns = tiles
        size = np.array([columns, rows, columns, rows])
        corners = [np.array([column, row, column, row]) for row in range(rows) for column in range(columns)]
        cut = [(whole.boxes + corner) / size for corner in corners]
        return TiledLayout(np.concatenate([*cut, whole.boxes]), None, tiles)


class MergedView(View):
    """Qwen2.5-VL: the picture in its own shape, one token for each square of `merge × merge` patches."""

    def __init__(self, processor: Any) -> None:
        self._patch_size: int = processor.patch_size
        self._merge: int = processor.merge_size
        self._frames: int = processor.temporal_patch_size
        self._edge = self._patch_size * self._merge
        self._fewest_pixels = int(processor.size["shortest_edge"])
        self._most_pixels = max(
            self._fewest_pixels, min(int(processor.size["longest_edge"]), _MAX_MERGED * self._edge**2)
        )
        self._pixels = PixelRecipe(
            size=(self._edge, self._edge),
            mean=tuple(processor.image_mean),
            std=tuple(processor.image_std),
            resample=int(processor.resample),
            scale=float(processor.rescale_factor),
        )

    @property
    def largest(self) -> PatchLayout:
        """A single row: what counts is how many tokens it has."""
        return PatchLayout.from_grid(1, max(1, self._most_pixels // self._edge**2))

    def preprocess(self, image: Picture) -> ModelInput:
        """The picture resized to whole tokens, its shape kept as closely as they allow."""
        height, width = self._size(image)
        values, _ = replace(self._pixels, size=(height, width)).apply(image.image)
        return ModelInput(torch.from_numpy(values), PatchLayout.from_grid(height // self._edge, width // self._edge))

    def encode(self, model: Any, pixel_values: Tensor) -> Tensor:
        """`[N, 3, H, W]` → `[N, tokens, hidden]`."""
        grid = [1, pixel_values.shape[2] // self._patch_size, pixel_values.shape[3] // self._patch_size]
        grids = torch.tensor([grid] * len(pixel_values), device=pixel_values.device)
        output = model.get_image_features(pixel_values=self._flatten(pixel_values), image_grid_thw=grids)
        return torch.stack(list(output.pooler_output))

    def positions(self, model: Any, input_ids: Tensor, is_image: Tensor, layout: PatchLayout) -> Tensor:
        """Time, row and column `[3, S]`: words stand on all three, a picture's tokens on its grid."""
        assert layout.grid is not None
        grid = torch.tensor([[1, *(length * self._merge for length in layout.grid)]], device=input_ids.device)
        kinds = is_image[None].int()
        positions: Tensor = model.get_rope_index(input_ids[None], mm_token_type_ids=kinds, image_grid_thw=grid)[0]
        return positions[:, 0]

    def _size(self, image: Picture) -> tuple[int, int]:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

        width, height = image.image.size
        try:
            size: tuple[int, int] = smart_resize(height, width, self._edge, self._fewest_pixels, self._most_pixels)
        except ValueError as error:
            raise ImageError(
                f"{image.name} is {width} × {height} pixels, more than 200 times as long as wide; cut it into parts."
            ) from error
        return size

    def _flatten(self, pixel_values: Tensor) -> Tensor:
        """`[N, 3, H, W]` → `[N · patches, 3 · frames · patch · patch]`, the patches of one token side by side."""
        side, merge = self._patch_size, self._merge
        number, channels, height, width = pixel_values.shape
        rows, columns = height // side // merge, width // side // merge
        cut = pixel_values.view(number, channels, rows, merge, side, columns, merge, side)
        patches = cut.permute(0, 2, 5, 3, 6, 1, 4, 7)
        # A still picture is a film of equal frames.
        return patches[..., None, :, :].expand(*patches.shape[:-2], self._frames, side, side).flatten(0, 4).flatten(1)


def make_view(folder: Path, config: Any, name: str) -> View:
    """The view that a model's configuration and processor ask for. Raises `ModelFilesError`."""
    vision = config.vision_config
    if config.model_type in ("idefics3", "smolvlm"):
        return _tiled_view(folder, config, name)
    if config.model_type == "qwen2_5_vl":
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        processor = Qwen2VLImageProcessorPil.from_pretrained(folder)
        made, needed = (processor.patch_size, processor.merge_size), (vision.patch_size, vision.spatial_merge_size)
        if made != needed:
            raise ModelFilesError(
                f"{name}: preprocessor_config.json makes patches of {made[0]} pixels, merged {made[1]} × {made[1]}, "
                f"and config.json wants {needed[0]}, merged {needed[1]} × {needed[1]}; copy both from one model."
            )
        return MergedView(processor)
    pixels = PixelRecipe.read(folder)
    check_shape(pixels, (vision.image_size, vision.image_size), name)
    if config.model_type == "paligemma":
        return PaliGemmaView(pixels, vision.patch_size)
    kind = (vision.model_type, config.vision_feature_select_strategy)
    if kind not in (("clip_vision_model", "default"), ("siglip_vision_model", "full")):
        raise ModelFilesError(
            f"{name} is a LLaVA on {kind[0]} with the choice of features {kind[1]!r}, whose patches nobody laid out "
            "here; choose one on CLIP ('default') or SigLIP ('full')."
        )
    return WholeView(pixels, vision.patch_size)


def _tiled_view(folder: Path, config: Any, name: str) -> View:
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    processors = {"idefics3": Idefics3ImageProcessorPil, "smolvlm": SmolVLMImageProcessorPil}
    processor = processors[config.model_type].from_pretrained(folder)
    vision = config.vision_config
    made = processor.max_image_size["longest_edge"]
    if made != vision.image_size:
        raise ModelFilesError(
            f"{name}: preprocessor_config.json makes tiles of {made} pixels and config.json wants "
            f"{vision.image_size}; copy both from one model."
        )
    return TiledView(processor, vision.image_size, vision.patch_size, config.scale_factor)
