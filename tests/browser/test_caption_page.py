"""The Caption tab as a person meets it."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from captioning.captions.prompts import DEFAULT_PROMPTS
from captioning.core.errors import HubError
from captioning.ui.prompt_list import describe_prompts
from tests.conftest import FakeLoader, Gate

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Any]

DONE = '.cs-caption-cards[data-phase="done"]'
BUSY = '.cs-caption-cards[data-phase="busy"]'
WRITING = f"{BUSY} .cs-card .cs-token:not(.is-prompt)"
NOTE_LABELS = """() => {
  const button = document.querySelector('.cs-copy');
  window.labels = [];
  new MutationObserver(() => window.labels.push(button.textContent)).observe(button, { childList: true });
}"""
"""Notes every label of the first Copy button: one that goes away again is not missed."""


def choose_sample(page: Any, number: int = 0) -> None:
    page.locator(".cs-sample").nth(number).click()


def captions_of(page: Any) -> list[str]:
    return [re.sub(r"\s+", " ", text).strip() for text in page.locator(".cs-card .cs-text").all_inner_texts()]


def set_prompts(page: Any, prompts: list[str]) -> None:
    """Remove all prompts but one, and type or paste others."""
    while page.locator(".cs-prompts li").count() > 1:
        page.locator(".cs-prompts .cs-icon-button").first.click()
    page.locator(".cs-field").first.fill("")
    if len(prompts) == 1:
        page.locator(".cs-field").first.fill(prompts[0])
        return
    page.evaluate("text => navigator.clipboard.writeText(text)", "\n".join(prompts))
    page.locator(".cs-field").first.focus()
    page.keyboard.press("Control+V")


def test_a_sample_gets_a_caption_for_every_prompt_written_token_by_token(open_page: OpenPage) -> None:
    gate = Gate(3)
    page = open_page(FakeLoader(step_gate=gate))
    choose_sample(page)
    page.wait_for_selector(WRITING)
    some = page.locator(".cs-card .cs-text .cs-token:not(.is-prompt)").count()
    gate.open()
    page.wait_for_selector(DONE)
    every = page.locator(".cs-card .cs-text .cs-token:not(.is-prompt)").count()
    assert 0 < some < every == 7 * len(DEFAULT_PROMPTS)
    for caption, prompt in zip(captions_of(page), DEFAULT_PROMPTS, strict=True):
        assert caption.startswith(prompt)
    assert page.locator(".cs-tag:visible").count() == 1
    assert "cheetah.jpg" in page.locator(".cs-caption-cards .cs-state").first.inner_text()


def test_markup_and_templates_in_prompts_stay_text(open_page: OpenPage) -> None:
    page = open_page(FakeLoader())
    hostile = [
        "<img src=x onerror=\"document.title='owned'\">",
        "${document.title='owned'}",
        "{{#each value}}owned{{/each}}",
        "</script><script>document.title='owned'</script>",
    ]
    set_prompts(page, hostile)
    choose_sample(page)
    page.wait_for_selector(DONE)
    assert page.title() == "Captionscope"
    assert page.locator(".cs-card img").count() == 0
    for caption, prompt in zip(captions_of(page), hostile, strict=True):
        assert caption.startswith(re.sub(r"\s+", " ", prompt))


@pytest.mark.slow
def test_prompts_can_be_added_removed_and_reset(open_page: OpenPage) -> None:
    page = open_page(FakeLoader())
    page.get_by_role("button", name="+ Add").click()
    page.keyboard.type("the sky")
    page.get_by_role("button", name="Remove prompt 1").click()
    choose_sample(page)
    page.wait_for_selector(DONE)
    assert [c.split(" ")[:2] for c in captions_of(page)][-1] == ["the", "sky"]
    assert len(captions_of(page)) == 6
    page.get_by_role("button", name="Reset").click()
    assert page.locator(".cs-field").first.input_value() == DEFAULT_PROMPTS[0]
    assert page.locator(".cs-field").count() == len(DEFAULT_PROMPTS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompts", "sentence"),
    [
        ([f"prompt {n}" for n in range(200)], "200 prompts are too many at once"),
        (["x" * 5000], "A prompt of 5,000 characters is too long"),
    ],
)
def test_prompts_beyond_the_limits_are_one_sentence(open_page: OpenPage, prompts: list[str], sentence: str) -> None:
    page = open_page(FakeLoader())
    set_prompts(page, prompts)
    choose_sample(page)
    page.wait_for_selector(".cs-message.cs-error")
    assert sentence in page.locator(".cs-message").inner_text()
    page.get_by_role("button", name="Reset").click()
    page.locator("#cs-start").click()
    page.wait_for_selector(DONE)


@pytest.mark.slow
def test_no_prompt_at_all_is_one_sentence(open_page: OpenPage) -> None:
    page = open_page(FakeLoader())
    while page.locator(".cs-prompts li").count():
        page.locator(".cs-prompts .cs-icon-button").first.click()
    choose_sample(page)
    page.wait_for_selector(".cs-message.cs-error")
    assert "There is no prompt" in page.locator(".cs-message").inner_text()


@pytest.mark.slow
def test_no_picture_is_one_sentence(open_page: OpenPage) -> None:
    page = open_page(FakeLoader())
    page.locator("#cs-start").click()
    page.wait_for_selector(".cs-message.cs-error")
    assert "There is no picture yet" in page.locator(".cs-message").inner_text()


def test_a_broken_picture_is_one_sentence_and_the_next_one_works(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(FakeLoader())
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture at all")
    page.locator("#cs-picture input[type=file]").first.set_input_files(broken)
    page.wait_for_selector(".cs-message.cs-error")
    message = page.locator(".cs-message").inner_text()
    assert message.startswith("broken.png is not a picture")
    assert str(tmp_path) not in message
    choose_sample(page)
    page.wait_for_selector(DONE)


@pytest.mark.slow
def test_an_uploaded_picture_is_captioned_at_once_and_taking_it_away_clears_the_cards(
    open_page: OpenPage, photo: Path
) -> None:
    page = open_page(FakeLoader())
    page.locator("#cs-picture input[type=file]").first.set_input_files(photo)
    page.wait_for_selector(DONE)
    page.locator("#cs-picture").get_by_role("button", name=re.compile("remove|clear", re.I)).click()
    page.wait_for_selector('.cs-caption-cards[data-phase="idle"]')
    assert page.locator(".cs-card").count() == 0


def test_a_picture_taken_away_while_it_is_captioned_leaves_the_hint(open_page: OpenPage) -> None:
    gate = Gate(2)
    page = open_page(FakeLoader(step_gate=gate))
    choose_sample(page)
    page.wait_for_selector(WRITING)
    page.locator("#cs-picture").get_by_role("button", name=re.compile("remove|clear", re.I)).click()
    page.wait_for_selector('.cs-caption-cards[data-phase="idle"]')
    gate.open()
    page.wait_for_timeout(800)
    assert page.locator(".cs-caption-cards").get_attribute("data-phase") == "idle"
    assert page.locator("#cs-captions .cs-message").inner_text().startswith("Choose a picture")
    assert page.locator(".cs-card").count() == 0


def test_stop_keeps_what_was_written_and_frees_the_model(open_page: OpenPage) -> None:
    gate = Gate(2)
    loader = FakeLoader(step_gate=gate)
    page = open_page(loader)
    choose_sample(page)
    page.wait_for_selector(WRITING)
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector('.cs-caption-cards[data-phase="stopped"]')
    assert page.locator(".cs-card .cs-token:not(.is-prompt)").count() > 0
    gate.open()
    page.wait_for_timeout(1200)
    assert loader.fakes["embedded"].steps <= 3, "two steps before Stop, and the one that was under way"


def test_stop_before_the_first_word_keeps_the_keyboard_where_it_was(open_page: OpenPage) -> None:
    gate = Gate(0)
    page = open_page(FakeLoader(picture_gate=gate))
    choose_sample(page)
    page.wait_for_selector(BUSY)
    page.locator("#cs-captions .cs-stop").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector('.cs-caption-cards[data-phase="stopped"]')
    page.wait_for_function("() => document.activeElement.closest('#cs-captions')")
    gate.open()


def test_a_picture_still_being_captioned_is_in_hand_already_and_stays(open_page: OpenPage) -> None:
    loader = FakeLoader()
    page = open_page(loader)
    choose_sample(page, 1)
    page.wait_for_selector(DONE)
    loader.fakes["embedded"].step_gate = gate = Gate(2)
    choose_sample(page, 0)
    page.wait_for_selector(WRITING)
    page.get_by_role("tab", name="Attention", exact=True).click()
    page.wait_for_function("() => document.querySelector('#cs-look-picture img')?.src.includes('cheetah')")
    gate.open()
    page.wait_for_selector('.cs-stage-picture[alt="cheetah.jpg"]')
    page.get_by_role("tab", name="Caption", exact=True).click()
    page.wait_for_selector(DONE)
    assert "cheetah.jpg" in page.locator("#cs-captions .cs-state").inner_text()


@pytest.mark.slow
def test_a_page_that_is_left_frees_the_model(open_page: OpenPage) -> None:
    gate = Gate(2)
    loader = FakeLoader(step_gate=gate)
    page = open_page(loader)
    choose_sample(page)
    page.wait_for_selector(WRITING)
    page.close()
    time.sleep(2.5)
    gate.open()
    time.sleep(0.5)
    assert loader.fakes["embedded"].steps <= 3, "two steps before, and the one that was under way"


@pytest.mark.slow
def test_another_picture_takes_the_place_of_the_one_being_captioned(open_page: OpenPage) -> None:
    gate = Gate(2)
    page = open_page(FakeLoader(step_gate=gate))
    choose_sample(page, 0)
    page.wait_for_selector(WRITING)
    choose_sample(page, 1)
    page.wait_for_function("() => document.querySelector('#cs-picture img')?.src.includes('lion')")
    gate.open()
    page.wait_for_selector(f"{DONE} .cs-state:has-text('lion.jpg')")
    page.wait_for_timeout(800)
    assert "lion.jpg" in page.locator(".cs-caption-cards .cs-state").first.inner_text()


def test_another_prompt_on_the_same_picture_encodes_nothing(open_page: OpenPage) -> None:
    loader = FakeLoader()
    page = open_page(loader)
    choose_sample(page)
    page.wait_for_selector(DONE)
    page.locator(".cs-field").first.fill("a drawing of")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('.cs-card .cs-text')?.textContent.startsWith('a drawing of')")
    page.wait_for_selector(DONE)
    assert loader.fakes["embedded"].encoded == 1
    assert "1 picture cached" in page.locator(".cs-status").inner_text()


def test_a_word_shows_its_likeliest_alternatives_to_mouse_and_keyboard(open_page: OpenPage) -> None:
    page = open_page(FakeLoader())
    choose_sample(page)
    page.wait_for_selector(DONE)
    page.locator(".cs-card").nth(0).locator(".cs-token").nth(4).hover()
    assert page.locator(".cs-popover .cs-choices li").count() == 5
    page.mouse.move(5, 5)
    assert page.locator(".cs-popover").is_hidden()
    text = page.locator(".cs-card .cs-text").nth(1)
    text.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator(".cs-popover").is_visible()
    active = text.get_attribute("aria-activedescendant")
    assert re.search(r"\d %$", page.locator(f"#{active}").get_attribute("aria-label"))
    page.keyboard.press("Escape")
    assert page.locator(".cs-popover").is_hidden()


@pytest.mark.slow
def test_captions_can_be_saved_and_copied(open_page: OpenPage) -> None:
    page = open_page(FakeLoader())
    choose_sample(page)
    page.wait_for_selector(DONE)
    with page.expect_download() as download:
        page.locator("#cs-caption-files").get_by_role("button", name="Save JSON").click()
    document = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert download.value.suggested_filename == "cheetah-captions.json"
    assert [c["prompt"] for c in document["captions"]] == list(DEFAULT_PROMPTS)
    assert (document["model"], document["revision"], document["options"]["seed"]) == ("embedded", "7", 0)
    page.evaluate(NOTE_LABELS)
    page.get_by_role("button", name="Copy").first.click()
    page.wait_for_function("() => window.labels.includes('Copied')")
    assert page.evaluate("() => navigator.clipboard.readText()").startswith(DEFAULT_PROMPTS[0])


@pytest.mark.slow
def test_controls_move_only_where_they_apply_and_sampling_repeats_with_its_seed(open_page: OpenPage) -> None:
    page = open_page(FakeLoader())
    page.get_by_role("button", name="Decoding").click()
    beams = page.get_by_label("range slider for Beams")
    seed = page.get_by_label("Seed", exact=False).last
    assert beams.is_disabled()
    page.get_by_label("Beams", exact=True).check()
    page.wait_for_function("() => !document.querySelector('input[aria-label=\"range slider for Beams\"]').disabled")
    assert seed.is_disabled()
    page.get_by_label("Sampling", exact=True).check()
    page.wait_for_function("() => document.querySelector('input[aria-label=\"range slider for Beams\"]').disabled")
    choose_sample(page)
    page.wait_for_selector(DONE)
    first = captions_of(page)
    seed.fill("1")
    page.locator("#cs-start").click()
    page.wait_for_function("before => document.querySelector('.cs-card .cs-text').textContent !== before", arg=first[0])
    page.wait_for_selector(DONE)
    assert captions_of(page) != first
    seed.fill("0")
    page.locator("#cs-start").click()
    page.wait_for_function("before => document.querySelector('.cs-card .cs-text').textContent === before", arg=first[0])
    page.wait_for_selector(DONE)
    assert captions_of(page) == first


@pytest.mark.slow
def test_more_captions_than_beams_is_one_sentence(open_page: OpenPage) -> None:
    page = open_page(FakeLoader())
    page.get_by_role("button", name="Decoding").click()
    page.get_by_label("Beams", exact=True).check()
    number = page.get_by_label("number input for Captions a prompt")
    page.wait_for_function("() => !document.querySelector('input[aria-label=\"range slider for Beams\"]').disabled")
    number.fill("9")
    number.blur()
    choose_sample(page)
    page.wait_for_selector(".cs-message.cs-error")
    assert "need at least 9 beams" in page.locator(".cs-message").inner_text()


def test_blip_loads_by_one_click_while_the_page_goes_on_answering(open_page: OpenPage) -> None:
    loader = FakeLoader(download_seconds=1)
    loader.may_end.clear()
    page = open_page(loader)
    assert "990 MB" in page.locator(".cs-notice button:visible").inner_text()
    page.get_by_role("button", name=re.compile("Load BLIP base")).click()
    page.wait_for_selector("text=/Downloading BLIP base… \\d+ of 990 MB/")
    choose_sample(page)
    page.wait_for_selector(DONE)
    assert page.locator(".cs-notice .cs-progress").is_visible()
    assert "Fake captioner" in page.locator(".cs-caption-cards .cs-state").first.inner_text()
    loader.may_end.set()
    page.wait_for_function("() => document.querySelector('.cs-status').textContent.includes('BLIP base')")
    page.wait_for_function("() => document.querySelector('.cs-state').textContent.includes('BLIP base')")
    assert page.locator(".cs-notice").is_hidden()


@pytest.mark.slow
def test_a_download_that_fails_leaves_the_model_in_use(open_page: OpenPage, broken_hub: HubError) -> None:
    loader = FakeLoader(download_seconds=1)
    loader.blip_error = broken_hub
    page = open_page(loader)
    page.get_by_role("button", name=re.compile("Load BLIP base")).click()
    page.wait_for_selector(".cs-notice .cs-error:visible")
    assert page.locator(".cs-notice .cs-error").inner_text() == str(broken_hub)
    assert page.locator("#cs-model input").input_value() == "Embedded captioner"
    choose_sample(page)
    page.wait_for_selector(DONE)


@pytest.mark.slow
def test_a_download_can_be_cancelled(open_page: OpenPage) -> None:
    page = open_page(FakeLoader(download_seconds=20))
    page.get_by_role("button", name=re.compile("Load BLIP base")).click()
    page.get_by_role("button", name="Cancel").click()
    page.wait_for_selector("text=/Load BLIP base/")
    assert page.locator(".cs-notice .cs-progress").is_hidden()


def test_why_auto_chose_a_model_is_said_until_somebody_chooses_another(open_page: OpenPage) -> None:
    page = open_page(FakeLoader())
    choose_sample(page)
    page.wait_for_selector(DONE)
    assert page.locator(".cs-reason").inner_text().startswith("auto: BLIP base is not on this machine")
    for name, title in (("wordless", "Wordless captioner"), ("embedded", "Fake captioner")):
        page.locator("#cs-model input").fill(name)
        page.locator("#cs-model input").press("Enter")
        page.wait_for_selector(f".cs-status li >> text={title}")
        assert page.locator(".cs-reason").inner_text() == ""


def test_the_keyboard_leaves_a_menu_closed_behind_it(open_page: OpenPage) -> None:
    page = open_page(FakeLoader())
    page.locator("#cs-model input").focus()
    page.wait_for_selector("#cs-model [role=listbox]")
    page.keyboard.press("Tab")
    page.wait_for_function("() => !document.activeElement.closest('#cs-model')")
    page.wait_for_selector("#cs-model [role=listbox]", state="hidden")


@pytest.mark.slow
def test_a_model_that_does_not_exist_is_one_sentence_and_the_menu_goes_back(open_page: OpenPage) -> None:
    page = open_page(FakeLoader())
    field = page.locator("#cs-model input")
    field.fill("<img src=x onerror=alert(1)>")
    field.press("Enter")
    page.wait_for_selector(".cs-notice .cs-error:visible")
    assert "There is no model '<img src=x onerror=alert(1)>'" in page.locator(".cs-notice .cs-error").inner_text()
    page.wait_for_function("() => document.querySelector('#cs-model input').value === 'Embedded captioner'")


def test_what_is_typed_while_another_model_is_asked_about_prompts_stays(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page(FakeLoader())
    asked, may_answer = threading.Event(), threading.Event()

    def answer_late(*about: Any) -> Any:
        asked.set()
        assert may_answer.wait(60)
        return {**describe_prompts(*about), "refusal": "It is locked."}

    monkeypatch.setattr("captioning.tabs.caption.describe_prompts", answer_late)
    set_prompts(page, ["a"])
    page.locator("#cs-model input").fill("wordless")
    page.locator("#cs-model input").press("Enter")
    assert asked.wait(30)
    page.locator(".cs-field").first.fill("a dog")
    may_answer.set()
    page.wait_for_selector("text=It is locked.")
    assert page.locator(".cs-field").first.input_value() == "a dog"
    monkeypatch.undo()
    page.locator("#cs-model input").fill("embedded")
    page.locator("#cs-model input").press("Enter")
    choose_sample(page)
    page.wait_for_selector(f"{DONE} .cs-state:has-text('Fake captioner')")
    assert captions_of(page)[0].startswith("a dog")


@pytest.mark.slow
def test_a_model_that_takes_no_prompt_locks_the_prompts_and_says_so(open_page: OpenPage) -> None:
    page = open_page(FakeLoader())
    page.locator("#cs-model input").fill("wordless")
    page.locator("#cs-model input").press("Enter")
    page.wait_for_selector("text=Wordless captioner takes no prompt")
    assert page.locator(".cs-field").first.is_disabled()
    choose_sample(page)
    page.wait_for_selector(DONE)
    assert len(captions_of(page)) == 1


@pytest.mark.slow
def test_on_a_narrow_screen_the_cards_come_into_view(open_page: OpenPage) -> None:
    page = open_page(FakeLoader(), size="narrow")
    choose_sample(page)
    page.wait_for_selector(DONE)
    page.wait_for_function("() => document.querySelector('.cs-card').getBoundingClientRect().top < innerHeight / 2")


@pytest.mark.slow
@pytest.mark.parametrize("size", ["wide", "narrow"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_tab_is_accessible(open_page: OpenPage, theme: str, size: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_page(FakeLoader(), theme=theme, size=size)

    def check() -> None:
        page.wait_for_timeout(400)
        results = axe.run(page)
        assert results.violations_count == 0, results.generate_report()

    check()
    page.get_by_role("button", name="Decoding").click()
    choose_sample(page)
    page.wait_for_selector(DONE)
    page.locator(".cs-card .cs-text .cs-token").nth(4).click()
    check()
    while page.locator(".cs-prompts li").count():
        page.locator(".cs-prompts .cs-icon-button").first.click()
    page.locator("#cs-start").click()
    page.wait_for_selector(".cs-message.cs-error")
    check()
    width = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert width == 0, "the page scrolls sideways"
