"""What somebody from afar may name and find out, by every way in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio.context import LocalContext
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from captioning.captions.comparison import Comparison, compare_models
from captioning.core.cancellation import Job
from captioning.core.errors import UnknownModelError
from captioning.core.settings import Settings
from captioning.core.types import DecodingOptions
from captioning.media.samples import sample_collection
from captioning.models import list_models
from captioning.serving.shared_captioner import SharedCaptioner
from captioning.tabs.header import Header, menu_choices
from captioning.tabs.model.net import look_inside
from captioning.tabs.model.patches import PatchSection
from captioning.tabs.video.asked import Asked
from captioning.tabs.video.tab import VideoTab
from captioning.web.links import Link, read_link
from captioning.web.visitor import check_helper, for_visitors, sits_here
from tests.clips import make_clip
from tests.conftest import FakeLoader
from tests.page_server import serve

AFAR = {"X-Forwarded-For": "203.0.113.7"}
FOREIGN = ["/etc", "../models", "somebody/huge-model", "pair:a/b+c/d", "wandb:a/b/c:v1", "~", "Embedded"]
REFUSED = "Visitors of this page choose from embedded, "

Change = Callable[..., None]


class RememberingLoader(FakeLoader):
    """Knows every name that reached it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __call__(self, model_id: str = "auto", **options: Any) -> SharedCaptioner:
        self.asked.append(model_id)
        return super().__call__(model_id, **options)


def request_from(host: str, headers: dict[str, str] | None = None, session: str = "s") -> Any:
    return SimpleNamespace(client=SimpleNamespace(host=host), headers=headers or {}, session_hash=session)


@contextmanager
def event_of(request: Any) -> Iterator[None]:
    """As if an event of this request were being handled."""
    token = LocalContext.request.set(request)
    try:
        yield
    finally:
        LocalContext.request.reset(token)


@pytest.fixture
def visitor() -> Iterator[None]:
    """Somebody from afar, whose event is being handled."""
    with event_of(request_from("127.0.0.1", AFAR)):
        yield


@pytest.fixture(scope="module")
def loader() -> RememberingLoader:
    return RememberingLoader()


@pytest.fixture(scope="module")
def address(loader: RememberingLoader) -> Iterator[str]:
    with serve(loader) as served:
        yield served


@pytest.fixture(scope="module")
def stranger(address: str) -> Client:
    return Client(address, verbose=False, headers=AFAR)


@pytest.mark.parametrize(
    ("host", "headers", "here"),
    [
        ("127.0.0.1", {}, True),
        ("::1", {}, True),
        ("203.0.113.7", {}, False),
        ("127.0.0.1", AFAR, False),
        ("127.0.0.1", {"forwarded": "for=127.0.0.1"}, False),
    ],
)
def test_only_who_sits_at_this_machine_is_here(host: str, headers: dict[str, str], here: bool) -> None:
    assert sits_here(request_from(host, headers)) is here
    assert not sits_here(None)


# ---- models: every way in ----


@pytest.mark.parametrize("name", FOREIGN)
def test_no_visitor_names_a_folder_or_a_model_of_the_hub(visitor: None, name: str) -> None:
    loader = RememberingLoader()
    with pytest.raises(UnknownModelError, match=REFUSED):
        for_visitors(loader, "auto")(name)
    assert loader.asked == []


@pytest.mark.parametrize("endpoint", ["/caption", "/caption_video", "/trace", "/image_map", "/model_info"])
def test_every_endpoint_refuses_models_that_are_not_listed(
    stranger: Client, loader: RememberingLoader, photo: Path, tmp_path: Path, endpoint: str
) -> None:
    inputs: dict[str, dict[str, Any]] = {
        "/caption": {"image": handle_file(photo)},
        "/caption_video": {"video": handle_file(make_clip(tmp_path / "clip.mp4"))},
        "/trace": {"image": handle_file(photo), "text": "two small trees"},
        "/image_map": {"images": [handle_file(photo)]},
        "/model_info": {},
    }
    loader.asked.clear()  # the server is shared with other tests
    for name in (str(tmp_path), "somebody/huge-model"):
        with pytest.raises(AppError, match=REFUSED) as error:
            stranger.predict(**inputs[endpoint], model=name, api_name=endpoint)
        assert "\n" not in str(error.value)
        assert name not in loader.asked
    assert stranger.predict(**inputs[endpoint], model="embedded", api_name=endpoint)


def test_who_sits_at_the_machine_may_name_any(address: str, loader: RememberingLoader) -> None:
    with pytest.raises(AppError, match="There is no model 'somebody/huge-model'"):
        Client(address, verbose=False).predict(model="somebody/huge-model", api_name="/model_info")
    assert "somebody/huge-model" in loader.asked


def test_the_model_menu_says_what_there_is_and_stays(visitor: None) -> None:
    updates = asyncio.run(_choices_of("/srv/models/mine"))
    (notice,) = [value for value in updates[-1].values() if "error" in value]
    assert notice["error"].startswith(REFUSED)


async def _choices_of(wanted: str) -> list[dict[Any, Any]]:
    with gr.Blocks():
        header = Header(for_visitors(FakeLoader(), "auto"), "auto")
    request: Any = LocalContext.request.get()
    return [update async for update in header._choose(wanted, "embedded", request)]


def test_a_comparison_refuses_a_column_and_fills_the_others(visitor: None, photo: Path) -> None:
    load = for_visitors(FakeLoader(), "auto")
    models = ["embedded", "somebody/huge-model"]
    job: Job[Comparison] = Job(_never())
    table, _ = compare_models(load, str(photo), "auto", models, ["a"], DecodingOptions(), job)
    assert [column.state for column in table.columns] == ["done", "failed"]
    assert table.columns[1].error.startswith(REFUSED)


def test_the_inside_of_models_that_are_not_listed_stays_inside(visitor: None) -> None:
    with pytest.raises(UnknownModelError, match=REFUSED):
        look_inside(for_visitors(FakeLoader(), "auto"), ["embedded", "/srv/models/mine"], Job(_never()))


def test_no_classifier_is_fetched_for_a_visitor(visitor: None, photo: Path) -> None:
    section = object.__new__(PatchSection)
    section._classifications = _runs()
    section.labels = "labels"  # type: ignore[assignment]
    request: Any = LocalContext.request.get()
    (update,) = asyncio.run(_all(section._classify(request, str(photo), "somebody/classifier")))
    assert "have none to choose from here" in update["labels"]["message"]


def test_no_text_model_is_fetched_for_a_visitor(visitor: None, tmp_path: Path) -> None:
    tab = object.__new__(VideoTab)
    tab._summary_runs = _runs()
    tab.summary = "summary"  # type: ignore[assignment]
    tab._page = SimpleNamespace(load=FakeLoader(), status="status")  # type: ignore[assignment]
    tab._store = None  # type: ignore[assignment]
    asked: Any = object.__new__(Asked)
    request: Any = LocalContext.request.get()
    updates = asyncio.run(_all(tab._sum_up(request, asked, "somebody/bert2bert")))
    assert "have none to choose from here" in str(updates[-1]["summary"])


def test_links_name_no_model() -> None:
    assert read_link({"tab": "caption", "model": "/etc"}, ["caption"]) == Link("caption")


def test_the_owner_chooses_what_visitors_may_name(visitor: None, change_settings: Change) -> None:
    load = for_visitors(FakeLoader(), "auto")
    assert load("embedded").is_same_model(load("auto"))
    change_settings(visitor_models="wordless, somebody/classifier")
    assert [name for _, name in menu_choices()] == ["wordless", "somebody/classifier"]
    assert load("wordless")
    check_helper("somebody/classifier")
    with pytest.raises(UnknownModelError, match="choose from wordless, somebody/classifier; whoever"):
        load(FakeLoader.BLIP)
    change_settings(visitor_models="any")
    check_helper("/srv/models/classifier")
    with pytest.raises(UnknownModelError, match="There is no model"):
        load("somebody/huge-model")


def test_what_answers_first_is_everybodys_by_its_own_name_too(visitor: None, change_settings: Change) -> None:
    change_settings(visitor_models="wordless")
    load = for_visitors(FakeLoader(), "auto")
    with gr.Blocks():
        header = Header(load, "auto")
    request: Any = LocalContext.request.get()
    opened = asyncio.run(_all(header._open_page(request)))[-1]
    assert load(opened[header.page.model_id]).is_same_model(load("auto"))
    with pytest.raises(UnknownModelError, match="choose from wordless; whoever"):
        load(FakeLoader.BLIP)


def test_listed_binds_who_sits_at_the_machine_too(change_settings: Change) -> None:
    change_settings(visitor_models="listed")
    with event_of(request_from("127.0.0.1")):
        with pytest.raises(UnknownModelError, match=REFUSED):
            for_visitors(FakeLoader(), "auto")("/etc")
        assert "llava-hf/llava-1.5-7b-hf" not in [name for _, name in menu_choices()]


def test_models_that_are_too_large_are_for_who_sits_at_the_machine(change_settings: Change) -> None:
    known = [spec.model_id for spec in list_models()]
    with event_of(request_from("127.0.0.1")):
        assert [name for _, name in menu_choices()] == known
    with event_of(request_from("203.0.113.7")):
        names = [name for _, name in menu_choices()]
        assert "llava-hf/llava-1.5-7b-hf" not in names
        assert "Salesforce/blip-image-captioning-large" in names
        with pytest.raises(UnknownModelError, match=REFUSED):
            for_visitors(FakeLoader(), "auto")("llava-hf/llava-1.5-7b-hf")
        change_settings(visitor_model_bytes=20 * 2**30)
        assert [name for _, name in menu_choices()] == known


def test_the_first_model_and_untrained_nets_are_everybodys(visitor: None) -> None:
    loader = RememberingLoader()
    load = for_visitors(loader, "wordless")
    assert load("wordless")
    with pytest.raises(UnknownModelError, match="There is no model"):  # not refused, only unknown to the fake
        load("untrained:blip-base")


# ---- a memory of one's own ----


def test_speed_tells_nobody_what_others_handed_in(change_settings: Change, photo: Path) -> None:
    change_settings(private_cache="on")
    loader = FakeLoader()
    with serve(loader) as address:
        first, second = Client(address, verbose=False), Client(address, verbose=False)
        ask(first, photo)
        fake = loader.fakes["embedded"]
        steps = fake.steps
        ask(first, photo)
        assert (fake.encoded, fake.steps) == (1, steps)  # one visitor shares with themselves
        ask(second, photo)
        assert (fake.encoded, fake.steps) == (2, 2 * steps)  # and with nobody else
        sample = sample_collection().images[0].path
        ask(first, sample)
        steps = fake.steps
        ask(second, sample)
        assert (fake.encoded, fake.steps) == (3, steps)  # a sample is everybody's


def test_without_the_option_everybody_shares(photo: Path) -> None:
    loader = FakeLoader()
    with serve(loader) as address:
        for client in (Client(address, verbose=False), Client(address, verbose=False)):
            ask(client, photo)
    assert loader.fakes["embedded"].encoded == 1


def test_who_has_no_session_finds_nothing_of_others(change_settings: Change, photo: Path) -> None:
    from captioning.media.images import open_image

    change_settings(private_cache="on")
    loader = FakeLoader()
    load = for_visitors(loader, "auto")
    for _ in range(2):
        with event_of(request_from("127.0.0.1", session="")):
            load("auto").encode([open_image(photo)])
    assert loader.fakes["embedded"].encoded == 2
    assert Settings().private_cache == "off"


def ask(client: Client, picture: Path) -> None:
    assert client.predict(image=handle_file(picture), api_name="/caption")["captions"]


async def _all(updates: AsyncIterator[Any]) -> list[Any]:
    return [update async for update in updates]


def _never() -> Any:
    import threading

    return threading.Event()


def _runs() -> Any:
    from captioning.web.jobs import Runs

    return Runs()
