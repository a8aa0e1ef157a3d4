"""The work without the page: what `gradio_client` gets."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from captioning.attention.views import default_view
from captioning.commands.shared import add_decoding
from captioning.core.options import parameters
from captioning.core.types import Capabilities, DecodingOptions
from captioning.page import build_demo
from captioning.ui.decoding import make_decoding_controls
from tests.clips import make_clip
from tests.conftest import FAKE_SPEC, FakeLoader
from tests.page_server import serve, serve_demo


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve(FakeLoader()) as served:
        yield served


@pytest.fixture(scope="module")
def client(address: str) -> Client:
    return Client(address, verbose=False)


def caption(client: Client, image: object, **options: object) -> dict[str, Any]:
    result: dict[str, Any] = client.predict(image=image, api_name="/caption", **options)
    return result


def test_a_picture_is_captioned_with_the_default_prompt(client: Client, photo: Path) -> None:
    result = caption(client, handle_file(photo))
    assert (result["model"], result["revision"], result["errors"]) == ("embedded", "7", [])
    (record,) = result["captions"]
    assert set(record) == {"image", "prompt", "text", "note", "tokens", "token_ids", "log_probs", "seconds"}
    assert (record["image"], record["prompt"]) == ("photo.png", "a photography of")
    assert len(record["tokens"]) == len(record["token_ids"]) == len(record["log_probs"])
    assert "".join(record["tokens"]) == record["text"]


def test_every_prompt_gets_its_captions_and_options_arrive(client: Client, photo: Path) -> None:
    result = caption(
        client,
        handle_file(photo),
        prompts=["", "the park is"],
        temperature=1.0,
        num_captions=2,
        max_new_tokens=3,
        seed=5,
    )
    assert [c["prompt"] for c in result["captions"]] == ["", "", "the park is", "the park is"]
    assert result["options"]["seed"] == 5
    assert len(result["captions"][0]["tokens"]) == 3


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"prompts": []}, "There is no prompt"),
        ({"prompts": ["p" * n for n in range(200)]}, "200 prompts are too many at once"),
        ({"prompts": ["x" * 5000]}, "A prompt of 5,000 characters is too long"),
        ({"prompts": "a dog"}, "prompts must be a list of texts"),
        ({"model": "no-such-model"}, "There is no model 'no-such-model'"),
        ({"num_beams": 2, "temperature": 1.0}, "set num_beams to 1 or temperature to 0"),
        ({"max_new_tokens": 2.5}, "max_new_tokens must be a whole number"),
        ({"seed": -1}, "seed must be between 0 and"),
    ],
)
def test_bad_input_is_one_sentence_and_the_server_goes_on(
    client: Client, photo: Path, options: dict[str, object], sentence: str
) -> None:
    with pytest.raises(AppError) as error:
        caption(client, handle_file(photo), **options)
    message = str(error.value)
    assert sentence in message
    assert "\n" not in message
    assert "Traceback" not in message
    assert caption(client, handle_file(photo))["captions"]


@pytest.mark.parametrize(("content", "sentence"), [(b"", "is empty"), (b"\x89PNG but not really", "is not a picture")])
def test_a_broken_picture_is_one_sentence_without_a_path(
    client: Client, tmp_path: Path, content: bytes, sentence: str
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(content)
    with pytest.raises(AppError) as error:
        caption(client, handle_file(broken))
    assert sentence in str(error.value)
    assert "broken.png" in str(error.value)
    assert "/" not in str(error.value)


def test_a_cut_off_picture_is_one_sentence(client: Client, tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.effect_noise((200, 200), 90).convert("RGB").save(file, "JPEG")
    broken = tmp_path / "half.jpg"
    broken.write_bytes(file.getvalue()[:4000])
    with pytest.raises(AppError, match="damaged or cut off"):
        caption(client, handle_file(broken))


@pytest.mark.parametrize("image", [None, "photo.png", {"path": "/etc/passwd"}, {"path": None}, [1]])
def test_no_other_file_of_the_server_is_opened(client: Client, image: object) -> None:
    with pytest.raises(AppError, match="There is no picture"):
        caption(client, image)


def test_addresses_are_not_fetched(address: str) -> None:
    file = {"path": "http://192.0.2.1/cat.jpg", "meta": {"_type": "gradio.FileData"}}
    assert post(f"{address}gradio_api/call/caption", {"data": [file]}) == (400, "Addresses are not fetched")


def test_a_request_beyond_the_limit_is_refused(address: str) -> None:
    status, detail = post(f"{address}gradio_api/call/caption", {"data": ["x" * 5_000_000]})
    assert (status, detail) == (413, "That is too large; keep it")


def test_a_clip_is_captioned_with_its_frames(client: Client, tmp_path: Path) -> None:
    clip = handle_file(make_clip(tmp_path / "clip.mp4"))
    result = client.predict(video=clip, frames=2, prompts=["a video of", ""], end=2.0, api_name="/caption_video")
    assert [c["prompt"] for c in result["captions"]] == ["a video of", ""]
    assert [c["image"] for c in result["captions"]] == ["clip.mp4"] * 2
    assert result["frames"] == [{"index": 5, "seconds": 0.5}, {"index": 15, "seconds": 1.5}]
    assert (result["model"], result["skipped"], result["errors"]) == ("embedded", 0, [])


@pytest.mark.parametrize(
    ("content", "options", "sentence"),
    [
        (b"", {}, "broken.mp4 is empty"),
        (b"text", {}, "broken.mp4 is not a video"),
        (None, {"frames": 65}, "between 1 and 64"),
        (None, {"start": 9.0}, "clip.mp4 is 3.00 s long"),
        (None, {"prompts": []}, "There is no prompt"),
    ],
)
def test_a_bad_clip_is_one_sentence_without_a_path(
    client: Client, tmp_path: Path, content: bytes | None, options: dict[str, object], sentence: str
) -> None:
    path = make_clip(tmp_path / "clip.mp4")
    if content is not None:
        path = tmp_path / "broken.mp4"
        path.write_bytes(content)
    with pytest.raises(AppError) as error:
        client.predict(video=handle_file(path), api_name="/caption_video", **options)
    assert sentence in str(error.value)
    assert str(tmp_path) not in str(error.value)


def test_no_other_clip_of_the_server_is_opened(client: Client) -> None:
    with pytest.raises(AppError, match="There is no clip"):
        client.predict(video={"path": "/etc/passwd"}, api_name="/caption_video")


def test_what_is_inside_a_model_adds_up(client: Client) -> None:
    info = client.predict(api_name="/model_info")
    assert info["spec"]["model_id"] == "embedded"
    assert info["parameters"] == sum(array["elements"] for array in info["arrays"])
    assert {"layer_types", "shapes", "parts", "tokenizer"} <= set(info)
    assert client.predict(model="wordless", api_name="/model_info")["spec"]["title"] == "Wordless captioner"


def test_the_inside_of_a_model_that_does_not_exist_is_one_sentence(client: Client) -> None:
    with pytest.raises(AppError, match="There is no model 'no-such-model'"):
        client.predict(model="no-such-model", api_name="/model_info")


DECODING = [
    "max_new_tokens",
    "num_beams",
    "temperature",
    "top_k",
    "top_p",
    "repetition_penalty",
    "length_penalty",
    "num_captions",
    "seed",
]
ENDPOINTS = {
    "/caption": ["image", "prompts", "model", *DECODING],
    "/caption_video": ["video", "frames", "prompts", "start", "end", "model", *DECODING],
    "/trace": ["image", "prompt", "text", "model", "method", "layer", "head"],
    "/image_map": ["images", "model", "method", "n_neighbors", "min_dist", "seed", "captions"],
    "/model_info": ["model"],
}


def test_endpoints_keep_their_names_and_the_order_of_their_parameters(client: Client) -> None:
    endpoints = client.view_api(return_format="dict", print_info=False)
    assert not endpoints["unnamed_endpoints"]
    named = endpoints["named_endpoints"]
    assert {name: [p["parameter_name"] for p in info["parameters"]] for name, info in named.items()} == ENDPOINTS
    assert named["/caption"]["parameters"][1]["parameter_default"] == ["a photography of"]


def test_every_parameter_says_what_it_means_with_its_range_and_default(client: Client) -> None:
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    told = {p["parameter_name"]: p["python_type"]["description"] for info in named.values() for p in info["parameters"]}
    assert told["max_new_tokens"] == "longest continuation, in tokens (between 1 and 500; default: 25)"
    assert told["start"] == "where the part to caption begins, in seconds (at least 0; optional)"
    assert all(len(text) > 15 for text in told.values())
    assert {p["label"] for p in named["/trace"]["parameters"]} == set(ENDPOINTS["/trace"])
    assert [value["label"] for info in named.values() for value in info["returns"]] == ["answer"] * len(named)


def test_arguments_that_are_left_out_have_their_defaults(address: str, client: Client, photo: Path) -> None:
    (whole,) = caption(client, handle_file(photo))["captions"]
    with photo.open("rb") as file:
        path = httpx.post(f"{address}gradio_api/upload", files={"files": file}).json()[0]
    sent = {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": "photo.png"}
    (shown,) = call(address, "caption", [sent])["captions"]
    assert shown["text"] == whole["text"]
    assert call(address, "caption", []) == {
        "error": "There is no picture; hand one in as image=handle_file('photo.jpg')."
    }
    assert call(address, "model_info", [])["spec"]["model_id"] == "embedded"


@pytest.mark.parametrize(
    "image",
    [
        "data:image/png;base64,iVBORw0KGgo=",
        {"path": "data:image/png;base64,iVBORw0KGgo=", "meta": {"_type": "gradio.FileData"}},
        {"url": "data:image/png;base64,iVBORw0KGgo=", "meta": {"_type": "gradio.FileData"}},
        {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
    ],
)
def test_a_data_url_is_told_how_to_send_a_file(address: str, image: object) -> None:
    sentence = call(address, "caption", [image])["error"]
    assert "no data URLs; send the file itself, with curl -F image=@photo.jpg" in sentence


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"start": "soon"}, "start must be a number, not 'soon'."),
        ({"end": [3]}, "end must be a number, not [3]."),
        ({"start": -1}, "start must be at least 0, not -1."),
        ({"end": True}, "end must be a number, not True."),
        ({"frames": "8"}, "frames must be a whole number, not '8'."),
        ({"prompts": [1]}, "prompts must be a list of texts, not [1]."),
        ({"model": 5}, "model must be a text, not 5."),
    ],
)
def test_an_argument_of_a_wrong_type_is_named(
    client: Client, tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(AppError) as error:
        client.predict(video=handle_file(make_clip(tmp_path / "clip.mp4")), api_name="/caption_video", **options)
    assert sentence in str(error.value)


def test_every_decoding_option_is_a_flag_a_control_and_a_parameter() -> None:
    fields = {field.name for field in dataclasses.fields(DecodingOptions)}
    assert fields == set(DECODING)
    parser = argparse.ArgumentParser()
    add_decoding(parser)
    assert fields == set(vars(parser.parse_args([])))
    with gr.Blocks():
        controls = make_decoding_controls().controls
    assert {control.label for control in controls} == {p.option.label for p in parameters(DecodingOptions)}
    assert len(controls) == len(fields)


def call(address: str, name: str, data: list[object]) -> Any:
    """What an endpoint answers to one who knows HTTP alone: its document, or its error."""
    started = httpx.post(f"{address}gradio_api/call/{name}", json={"data": data})
    if started.status_code != 200:
        return started.json()
    events = httpx.get(f"{address}gradio_api/call/{name}/{started.json()['event_id']}", timeout=60).text
    kind, line = events.strip().split("\n\n")[-1].split("\n")
    result = json.loads(line.removeprefix("data: "))
    return result[0] if kind == "event: complete" else {"error": result["error"]}


def post(url: str, payload: object) -> tuple[int, str]:
    """Status and the beginning of the detail of an answer."""
    request = urllib.request.Request(url, json.dumps(payload).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, str(json.loads(error.read())["detail"])[:26].removesuffix(";").rstrip()


def test_a_caption_is_traced(client: Client, photo: Path) -> None:
    image = handle_file(photo)
    result = client.predict(image=image, text="two small trees", layer=1, head="2", api_name="/trace")
    assert result["caption"]["tokens"] == ["a", " photography", " of", " two", " small", " trees"]
    assert (result["method"], result["layer"], result["head"]) == ("attention", 1, 2)
    assert len(result["maps"]) == len(result["entropy"]) == 6
    assert len(result["maps"][0]) == len(result["boxes"]) == 16
    assert result["grid"] == [4, 4]
    for row, share, prefix in zip(result["maps"], result["image_share"], result["prefix_share"], strict=True):
        assert sum(row) == pytest.approx(share, abs=1e-4)
        assert share + prefix == pytest.approx(1, abs=1e-4)


def test_a_trace_that_asks_for_no_view_has_the_one_that_measured_best(photo: Path) -> None:
    loader = FakeLoader()
    spec = replace(FAKE_SPEC, capabilities=Capabilities(explanation_methods=("gradient_attention",)))
    loader("embedded")
    loader.fakes["embedded"].spec = spec
    with serve(loader) as address:
        client = Client(address, verbose=False)
        best = client.predict(image=handle_file(photo), text="two small trees", api_name="/trace")
        all_of_it = client.predict(
            image=handle_file(photo), text="two small trees", method="attention", layer="mean", api_name="/trace"
        )
    assert default_view(spec).measured
    assert (best["method"], best["layer"]) == (default_view(spec).method, default_view(spec).layer)
    assert (all_of_it["method"], all_of_it["layer"], all_of_it["head"]) == ("attention", None, "mean")


def test_who_names_no_model_gets_the_one_that_the_page_begins_with(photo: Path) -> None:
    with serve_demo(build_demo(FakeLoader(), "wordless")) as address:
        client = Client(address, verbose=False)
        assert caption(client, handle_file(photo), prompts=[""])["model"] == "wordless"
        assert caption(client, handle_file(photo), model="auto")["model"] == "embedded"
        found = client.predict(images=[handle_file(photo)], captions=False, api_name="/image_map")
        assert found["model"] == "wordless"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"method": "magic"}, "magic"),
        ({"layer": 7}, "no layer 7"),
        ({"head": "9"}, "no head 9"),
        ({"head": "loudest"}, "mean or max"),
        ({"layer": True}, "no layer 'True'"),
        ({"prompt": 5}, "prompt must be a text, not 5"),
        ({"model": "nobody"}, "no model"),
    ],
)
def test_a_trace_that_cannot_be_is_one_sentence(
    client: Client, photo: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(AppError, match=sentence):
        client.predict(image=handle_file(photo), api_name="/trace", **options)
