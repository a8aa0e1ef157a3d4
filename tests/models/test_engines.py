"""Engines are held, token for token, against the libraries' own layers run the plain way."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from captioning.core.contract import DecodingRequest
from captioning.core.errors import ModelError, OptionsError, PromptError, Stopped
from captioning.core.types import Caption, DecodingOptions
from captioning.models.captioner import NetworkCaptioner
from captioning.models.decoding.choosing import choose_engine
from captioning.models.decoding.engine import Engine, torch_engine
from captioning.models.decoding.loop import score_rows, write_captions
from captioning.models.decoding.text_decoder import one_a_picture
from captioning.models.network import Network
from tests.models.plain import PlainDecoder
from tests.tiny_models import drawing

DECLARED = (
    "blip",
    "patch_captioner",
    "vision_encoder_decoder-vit-gpt2",
    "vision_encoder_decoder-deit-bert",
    "vision_encoder_decoder-swin-gpt2",
    "vision_encoder_decoder-clip-gpt2",
)
PROMPTS = ("", "a photo of", "the woman", "dog", "a small red car in the street and")
MODES = {
    "greedy": DecodingOptions(max_new_tokens=12),
    "beams": DecodingOptions(max_new_tokens=12, num_beams=3, num_captions=2),
    "sampled": DecodingOptions(max_new_tokens=9, temperature=1.2, num_captions=3),
}
EVERY_MODE = [pytest.param(mode, marks=pytest.mark.slow if mode == "sampled" else ()) for mode in MODES]
ROWS = [(0, 0, 1, 2, 2), *(pytest.param(rows, marks=pytest.mark.slow) for rows in [(0, 0, 0, 0, 0), (0, 1, 2, 0, 1)])]
NEEDS_OPENVINO = pytest.mark.skipif(find_spec("openvino") is None, reason="the `fast` extra is not installed")


@pytest.fixture(scope="session")
def engines() -> dict[tuple[str, str], Engine]:
    return {}


@pytest.fixture(params=["torch", pytest.param("openvino", marks=NEEDS_OPENVINO)])
def engine_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=DECLARED)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def network_captioner(family: str, tiny_captioners: dict[str, NetworkCaptioner]) -> NetworkCaptioner:
    return tiny_captioners[family]


@pytest.fixture
def engine(
    engine_name: str,
    family: str,
    network_captioner: NetworkCaptioner,
    engines: dict[tuple[str, str], Engine],
) -> Engine:
    key = engine_name, family
    if key not in engines:
        engines[key] = choose_engine(network_captioner._network, engine_name)
    return engines[key]


@pytest.fixture
def captioner(engine: Engine, network_captioner: NetworkCaptioner) -> NetworkCaptioner:
    return NetworkCaptioner(network_captioner.spec, network_captioner._network, engine=engine)


def same(one: Caption, other: Caption) -> bool:
    return one.token_ids == other.token_ids and one.log_probs == pytest.approx(other.log_probs, abs=1e-4)


def test_the_engine_asked_for_is_the_one_that_runs(engine: Engine, engine_name: str) -> None:
    assert engine.name == engine_name
    assert engine.note == ""
    assert (engine.num_bytes > 0) == (engine_name == "openvino")


@torch.inference_mode()
def test_pictures_look_the_same_to_every_engine(engine: Engine, network_captioner: NetworkCaptioner) -> None:
    network = network_captioner._network
    for count in (1, 3):
        pixels = torch.stack([network.preprocess(drawing(seed)).pixel_values for seed in range(count)])
        for found, expected in zip(engine.encode(pixels), network.encode(pixels), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mode", EVERY_MODE)
@pytest.mark.parametrize("pictures", ROWS)
@torch.inference_mode()
def test_rows_of_any_pictures_equal_the_plain_way(
    engine: Engine, network_captioner: NetworkCaptioner, mode: str, pictures: tuple[int, ...]
) -> None:
    network = network_captioner._network
    model_input = network.preprocess(drawing(0))
    pixels = torch.stack([network.preprocess(drawing(seed)).pixel_values for seed in range(3)])
    states = network.encode(pixels)[0][list(pictures)]
    prefixes = [network.text_to_ids(prompt) for prompt in PROMPTS]
    arguments = (states, model_input.layout, prefixes, MODES[mode])
    plain = PlainDecoder(network)
    ours, expected = (write_captions(one, *arguments) for one in (engine, plain))
    assert [row.token_ids for row in ours] == [row.token_ids for row in expected]
    for mine, own in zip(ours, expected, strict=True):
        assert mine.log_probs == pytest.approx(own.log_probs, abs=1e-4)
    finished = [row.token_ids for row in ours][:5]
    scores = [score_rows(one, states[: len(finished)], model_input.layout, finished) for one in (engine, plain)]
    for mine, own in zip(*scores, strict=True):
        assert mine.log_probs == pytest.approx(own.log_probs, abs=1e-4)


@pytest.mark.parametrize("mode", EVERY_MODE)
def test_requests_written_together_equal_each_alone(captioner: NetworkCaptioner, mode: str) -> None:
    features = captioner.encode([drawing(seed) for seed in range(4)])
    asked = [PROMPTS[:1], PROMPTS[1:3], PROMPTS[4:], PROMPTS[:2]]
    requests = [DecodingRequest(f, p) for f, p in zip(features, asked, strict=True)]
    for request, together in zip(requests, captioner.decode_together(requests, MODES[mode]), strict=True):
        assert not isinstance(together, Exception)
        alone = captioner.decode(request.features, request.prefixes, MODES[mode])
        assert len(together) == len(alone)
        assert all(same(one, other) for one, other in zip(together, alone, strict=True))
        assert {caption.image_id for caption in together} == {request.features.image_id}


def test_one_request_of_a_batch_stops_fails_or_ends_without_the_others(captioner: NetworkCaptioner) -> None:
    features = captioner.encode([drawing(seed) for seed in range(4)])
    options = MODES["greedy"]
    heard: list[int] = []
    done: list[list[Caption]] = []

    def stop(captions: object) -> None:
        heard.append(1)
        if len(heard) == 2:
            raise Stopped("Stopped.")

    requests = [
        DecodingRequest(features[0], ["a photo of"], stop),
        DecodingRequest(features[1], ["the " * 60]),
        DecodingRequest(features[2], ["the woman"], on_done=done.append),
        DecodingRequest(features[3], []),
    ]
    stopped, too_long, written, nothing = captioner.decode_together(requests, options)
    assert isinstance(stopped, Stopped)
    assert len(heard) == 2
    assert isinstance(too_long, PromptError)
    assert nothing == []
    (alone,) = captioner.decode(features[2], ["the woman"], options)
    assert isinstance(written, list)
    assert same(written[0], alone)
    ended = len(alone.token_ids) - alone.num_prompt_tokens < options.max_new_tokens
    assert [captions[0].token_ids for captions in done] == [alone.token_ids] * ended


def test_head_masks_traces_and_scores_do_not_depend_on_the_engine(
    captioner: NetworkCaptioner, network_captioner: NetworkCaptioner
) -> None:
    (features,) = captioner.encode([drawing(0)])
    (caption,) = captioner.decode(features, ["the woman"], MODES["greedy"])
    traces = [one.trace(features, caption) for one in (captioner, network_captioner)]
    assert traces[0].image_attentions == pytest.approx(traces[1].image_attentions, abs=1e-4)
    layers, heads = traces[0].image_attentions.shape[:2]
    mask = torch.ones(layers, heads)
    mask[0, 0] = 0
    plain, masked = (captioner.score([features], caption, m) for m in (None, mask.numpy()))
    assert plain == pytest.approx(captioner.score([features], caption, torch.ones(layers, heads).numpy()), abs=1e-4)
    assert abs(plain - masked).max() > 1e-4
    assert masked == pytest.approx(network_captioner.score([features], caption, mask.numpy()), abs=1e-4)


def test_equal_neighbours_are_one_picture_only_where_all_have_equally_many() -> None:
    a, b = torch.zeros(2, 3), torch.ones(2, 3)
    assert len(one_a_picture(a[None].expand(4, -1, -1))) == 1
    assert len(one_a_picture(torch.stack((a, a, b, b)))) == 2
    assert len(one_a_picture(torch.stack((a, b, b)))) == 3
    assert len(one_a_picture(torch.stack((a, b, a, b)))) == 4


def test_an_engine_that_cannot_serve_leaves_the_work_to_torch_and_says_why(
    tiny_captioners: dict[str, NetworkCaptioner],
) -> None:
    network = tiny_captioners["git"]._network
    assert choose_engine(network, "auto").note == ""
    asked = choose_engine(network, "openvino")
    assert asked.name == "torch"
    assert asked.note.startswith("OpenVINO: ")
    assert "(" in NetworkCaptioner(tiny_captioners["git"].spec, network, engine=asked).engine
    with pytest.raises(OptionsError, match="choose from auto, torch, openvino"):
        choose_engine(network, "abacus")


def test_without_the_package_auto_is_torch_and_a_wish_for_openvino_is_answered(
    tiny_captioners: dict[str, NetworkCaptioner], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    monkeypatch.setattr("captioning.models.decoding.choosing._WORTH_COMPILING", 0)
    network = tiny_captioners["blip"]._network
    found = choose_engine(network, "auto")
    assert (found.name, found.note) == ("torch", "")
    assert "not installed" in choose_engine(network, "openvino").note


@NEEDS_OPENVINO
def test_auto_compiles_large_networks_only(
    tiny_captioners: dict[str, NetworkCaptioner], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = tiny_captioners["blip"]._network
    assert choose_engine(network, "auto").name == "torch"
    monkeypatch.setattr("captioning.models.decoding.choosing._WORTH_COMPILING", 0)
    assert choose_engine(network, "auto").name == "openvino"


@NEEDS_OPENVINO
def test_a_network_that_compiles_wrongly_is_not_used(
    tiny_captioners: dict[str, NetworkCaptioner], monkeypatch: pytest.MonkeyPatch
) -> None:
    from captioning.models.decoding import openvino_engine

    network = tiny_captioners["blip"]._network
    pixels = network.preprocess(drawing(0)).pixel_values[None]
    wrong = replace(torch_engine(network), encode=lambda pixels: (torch.zeros(1, 17, 24), torch.zeros(1, 24)))
    with torch.no_grad(), pytest.raises(ModelError, match="differ from torch's by 100"):
        openvino_engine._check(wrong, torch_engine(network), pixels, network.encode(pixels)[0], 1e-3)
    with pytest.raises(ModelError, match="float16"):
        openvino_engine.open_engine(network, torch.float16, pixels)


@NEEDS_OPENVINO
def test_bfloat16_networks_compile_and_keep_their_precision(tiny_folders: dict[str, object]) -> None:
    from captioning.models.sources import hub

    spec = hub.resolve_spec(str(tiny_folders["blip"]))
    network = hub.open_network(spec, torch.device("cpu"), torch.bfloat16)
    captioner = NetworkCaptioner(spec, network, engine=choose_engine(network, "openvino"))
    assert captioner.engine == "openvino"
    (features,) = captioner.encode([drawing(0)])
    assert features.encoder_hidden_states.dtype == torch.bfloat16
    assert captioner.decode(features, ["the woman"], MODES["greedy"])[0].token_ids


@NEEDS_OPENVINO
@pytest.mark.parametrize("family", ["blip", "vision_encoder_decoder-vit-gpt2"])
def test_nothing_of_what_was_converted_stays_in_memory(
    family: str, tiny_folders: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    from captioning.models.decoding import openvino_engine
    from captioning.models.sources import hub

    network = hub.open_network(hub.resolve_spec(str(tiny_folders[family])), torch.device("cpu"), torch.bfloat16)
    made: list[weakref.ref[torch.nn.Module]] = []
    convert = openvino_engine._in_float32

    def watched(network: Network) -> Network:
        converted = convert(network)
        made.append(weakref.ref(converted.module))
        return converted

    monkeypatch.setattr(openvino_engine, "_in_float32", watched)
    engine = choose_engine(network, "openvino")
    assert engine.name == "openvino"
    gc.collect()
    assert [one() for one in made] == [None]
