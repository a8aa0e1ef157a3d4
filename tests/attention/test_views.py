"""Maps of a trace: their selection, their scale, and the boxes of their patches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from captioning.attention.views import (
    METHODS,
    SCALES,
    Head,
    default_view,
    entropy,
    image_share,
    map_tokens,
    merge_words,
    methods_for,
    prefix_share,
    quantise,
    remove_interference,
    rescale,
    sample_map,
    select,
    to_grid,
)
from captioning.captions.words import word_groups, word_text
from captioning.core.errors import CapabilityError, OptionsError
from captioning.core.types import Capabilities, Caption, CaptionTrace, DecodingOptions, PatchLayout, Picture
from tests.conftest import FAKE_SPEC, FakeCaptioner

LAYERS, HEADS, ROWS, COLUMNS, PREFIX = 3, 4, 2, 5, 2
ALL = Capabilities(explanation_methods=("gradient_attention", "relevance", "input_gradient"))


def make_caption(tokens: tuple[str, ...]) -> Caption:
    count = len(tokens)
    text = "".join(tokens)
    return Caption(
        "embedded", "7", "one", "", DecodingOptions(), text, tuple(range(count)), tokens, 0, (-1.0,) * count,
        ((),) * count, 0.1,
    )  # fmt: skip


def make_trace(tokens: tuple[str, ...] = ("a", " dog", " runs")) -> tuple[CaptionTrace, NDArray[np.float32]]:
    """Return a trace, and the attention `[layers, heads, tokens, prefix + patches]` that it holds."""
    shape = (LAYERS, HEADS, len(tokens))
    whole = np.random.default_rng(5).dirichlet(np.full(PREFIX + ROWS * COLUMNS, 0.5), shape).astype(np.float32)
    layout = PatchLayout.from_grid(ROWS, COLUMNS)
    caption = make_caption(tokens)
    return CaptionTrace(caption, whole[..., PREFIX:], whole[..., :PREFIX].sum(-1), "cross", layout), whole


def test_the_classic_recipe_equals_its_formula_written_out() -> None:
    trace, whole = make_trace()
    for layer in range(LAYERS):
        # Drop the prefix, subtract the minimum across tokens, mean over heads, reshape to the grid.
        without_prefix = whole[layer][:, :, PREFIX:]
        expected = np.zeros((3, ROWS, COLUMNS))
        for token in range(3):
            for patch in range(ROWS * COLUMNS):
                for head in range(HEADS):
                    least = min(without_prefix[head, other, patch] for other in range(3))
                    share = (without_prefix[head, token, patch] - least) / HEADS
                    expected[token, patch // COLUMNS, patch % COLUMNS] += share
        classic = to_grid(select(trace, layer, "mean", subtract_minimum=True), trace.layout)
        np.testing.assert_allclose(classic, expected, atol=1e-7)


def test_layers_and_heads_are_chosen_or_averaged() -> None:
    trace, whole = make_trace()
    patches = whole[..., PREFIX:]
    np.testing.assert_array_equal(select(trace, 1, 2), patches[1, 2])
    np.testing.assert_allclose(select(trace), patches.mean(axis=(0, 1)), atol=1e-7)
    np.testing.assert_allclose(select(trace, 0, "max"), patches[0].max(axis=0), atol=1e-7)
    np.testing.assert_allclose(select(trace, None, 3), patches[:, 3].mean(axis=0), atol=1e-7)


def test_layers_and_heads_may_be_numbered_by_numpy() -> None:
    trace, _ = make_trace()
    for kind in (np.int64, np.uint8):
        np.testing.assert_array_equal(select(trace, kind(1), kind(2)), select(trace, 1, 2))  # type: ignore[arg-type]
        np.testing.assert_array_equal(image_share(trace, kind(1), kind(2)), image_share(trace, 1, 2))  # type: ignore[arg-type]
    with pytest.raises(OptionsError, match="There is no head"):
        select(trace, 1, np.int64(4))  # type: ignore[arg-type]


@pytest.mark.parametrize(("layer", "head"), [(3, "mean"), (-1, 0), (0, 4), (0, -1), (0, "median")])
def test_a_layer_or_head_that_is_not_there_is_refused_with_the_choices(layer: int, head: Head) -> None:
    with pytest.raises(OptionsError, match=r"choose from 0 to [23]"):
        select(make_trace()[0], layer, head)


def test_shares_of_picture_and_prefix_add_up_to_one_for_every_view() -> None:
    trace, _ = make_trace()
    heads: tuple[Head, ...] = (0, 3, "mean", "max")
    for layer in (None, 0, 2):
        for head in heads:
            shares = image_share(trace, layer, head) + prefix_share(trace, layer, head)
            np.testing.assert_allclose(shares, 1, atol=1e-6)


def test_a_shared_scale_keeps_maps_comparable_and_a_scale_of_their_own_does_not() -> None:
    maps = np.array([[0.1, 0.2, 0.1], [0.1, 0.8, 0.1]], np.float32)
    np.testing.assert_allclose(rescale(maps, "shared"), maps / 0.8, rtol=1e-6)
    np.testing.assert_allclose(rescale(maps, "per_map"), [[0, 1, 0], [0, 1, 0]], atol=1e-6)
    for how in SCALES:
        assert not rescale(np.zeros((2, 3), np.float32), how).any()
        assert rescale(np.zeros((0, 3), np.float32), how).shape == (0, 3)


def test_what_earlier_words_looked_at_is_taken_off_and_what_is_new_stays() -> None:
    earlier = np.array([0.5, 0.5, 0, 0], np.float32)
    new = np.array([0, 0, 0, 1.0], np.float32)
    cleaned = remove_interference(np.stack((earlier, 0.5 * earlier + 0.5 * new, earlier)))
    np.testing.assert_array_equal(cleaned[0], earlier)
    np.testing.assert_allclose(cleaned[1], 0.5 * new, atol=1e-7)
    assert cleaned.min() >= 0
    assert not remove_interference(np.zeros((3, 4), np.float32)).any()


def test_entropy_is_in_bits_from_one_patch_to_all() -> None:
    maps = np.array([[0, 0.3, 0, 0], [0.2, 0.2, 0, 0], [0.1, 0.1, 0.1, 0.1], [0, 0, 0, 0]], np.float32)
    assert entropy(maps).tolist() == pytest.approx([0, 1, 2, 2])


def test_subwords_are_merged_by_position_so_that_a_word_that_occurs_twice_has_two_maps() -> None:
    caption = make_caption(("a", " hors", "e", " and", " a", " hors", "e"))
    groups = word_groups(caption)
    assert groups == ((0,), (1, 2), (3,), (4,), (5, 6))
    assert [word_text(caption, group) for group in groups] == ["a", "horse", "and", "a", "horse"]
    maps = np.arange(7, dtype=np.float32)[:, None] * np.ones(3, np.float32)
    assert merge_words(maps, groups)[:, 0].tolist() == [0, 1.5, 3, 4, 5.5]
    assert word_groups(make_caption(())) == ()
    assert merge_words(maps[:0], ()).shape == (0, 3)


def test_a_map_lies_where_its_patches_lie_on_a_picture_that_is_not_square() -> None:
    layout = PatchLayout.from_grid(2, 5)
    heat = np.zeros(10, np.float32)
    heat[7] = 1  # row 1, column 2
    flat = sample_map(heat, layout, 40, 200, smooth=False)
    assert flat.shape == (40, 200)
    assert (flat[20:, 80:120] == 1).all()
    assert flat.sum() == 20 * 40
    blended = sample_map(heat, layout, 40, 200, smooth=True)
    assert np.unravel_index(blended.argmax(), blended.shape)[0] >= 29
    assert blended[30, 100] == pytest.approx(1, abs=0.06)
    assert blended[30, 60] == pytest.approx(0, abs=0.02)  # a neighbour's centre
    assert blended[10, 100] == pytest.approx(0, abs=0.05)


def test_what_lies_outside_all_patches_is_cold_and_where_patches_overlap_is_their_mean() -> None:
    middle = PatchLayout(np.array([[0.25, 0, 0.75, 1.0]]), (1, 1))
    for smooth in (True, False):
        sampled = sample_map(np.ones(1, np.float32), middle, 4, 8, smooth)
        assert sampled[0].tolist() == [0, 0, 1, 1, 1, 1, 0, 0]
    tiles = PatchLayout(np.array([[0, 0, 1, 1], [0, 0, 0.5, 1]], np.float64))
    assert sample_map(np.array([1, 3], np.float32), tiles, 1, 4)[0].tolist() == [2, 2, 1, 1]
    with pytest.raises(CapabilityError, match="no grid"):
        to_grid(np.ones(2, np.float32), tiles)


def test_bytes_give_the_weights_back_to_half_a_step_of_each_row() -> None:
    weights = np.random.default_rng(0).dirichlet(np.ones(30), (2, 3, 4)).astype(np.float32)
    weights[0, 0, 0] = 0
    levels, largest = quantise(weights)
    assert levels.dtype == np.uint8
    error = np.abs(levels * (largest[..., None] / 255) - weights).max(axis=-1)
    assert (error <= largest / 255 * 0.501).all()
    assert not levels[0, 0, 0].any()


def test_methods_are_those_that_the_model_declares() -> None:
    assert [m.name for m in methods_for(replace(FAKE_SPEC, capabilities=ALL))] == [m.name for m in METHODS]
    assert [m.name for m in methods_for(FAKE_SPEC)] == ["attention", "attention_clean"]
    blind = replace(FAKE_SPEC, capabilities=Capabilities(attention_kind=None))
    assert methods_for(blind) == ()
    assert not default_view(replace(FAKE_SPEC, model_id="nobody measured me")).measured
    assert default_view(FAKE_SPEC).method in ("attention", "attention_clean")  # it declares no other


def test_any_method_maps_any_tokens_through_the_contract() -> None:
    captioner = FakeCaptioner(replace(FAKE_SPEC, capabilities=ALL))
    picture = Picture(Image.new("RGB", (8, 8)), "one")
    (features,) = captioner.encode([picture])
    (caption,) = captioner.decode(features, [""], DecodingOptions())
    trace = captioner.trace(features, caption)
    for method in METHODS:
        maps = map_tokens(captioner, picture, caption, method.name)
        assert maps.shape == (len(caption.token_ids), 16)
        np.testing.assert_array_equal(
            map_tokens(captioner, picture, caption, method.name, positions=[4, 1]), maps[[4, 1]]
        )
    np.testing.assert_array_equal(map_tokens(captioner, picture, caption, "attention", 1, 2), select(trace, 1, 2))
    with pytest.raises(CapabilityError, match="choose from attention, attention_clean, gradient_attention, relevance"):
        map_tokens(captioner, picture, caption, "magic")
    with pytest.raises(OptionsError, match="no token at position 7; choose from 0 to 6"):
        map_tokens(captioner, picture, caption, "attention", positions=[7])
    blind = FakeCaptioner(replace(FAKE_SPEC, capabilities=Capabilities(attention_kind=None)))
    with pytest.raises(CapabilityError, match="no attention to the picture"):
        map_tokens(blind, picture, caption, "attention")
