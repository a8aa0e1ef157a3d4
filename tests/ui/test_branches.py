"""Going on from an alternative, and comparing models, without a page."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from captioning.captions.branches import write_branch
from captioning.captions.comparison import compare_models, read_models
from captioning.core.cancellation import Job
from captioning.core.errors import OptionsError, PromptError, Stopped, UnknownModelError
from captioning.core.types import Caption, DecodingOptions
from captioning.tabs.caption import write_captions
from captioning.ui.branches import MOST_BRANCHES, Choice, Written, read_choice
from captioning.ui.caption_cards import Branch
from captioning.ui.comparison import comparison_value
from tests.conftest import FakeLoader


def make_job() -> Job[Any]:
    return Job(threading.Event())


@pytest.fixture
def written(fake_loader: FakeLoader, photo: Path) -> Written:
    written, _ = write_captions(fake_loader, str(photo), "auto", ["the sky", ""], DecodingOptions(), make_job())
    return written


def click(**data: object) -> Any:
    return SimpleNamespace(**{"caption": 0, "branch": -1, "position": 3, "choice": 1} | data)


def write(loader: FakeLoader, written: Written, choice: Choice) -> Caption:
    chosen = (choice.caption, choice.position, choice.alternative)
    return write_branch(loader, written.path, written.model_id, *chosen, make_job())[0]


def go_on(loader: FakeLoader, written: Written, **data: object) -> tuple[Choice, Branch]:
    choice = read_choice(written, click(**data))
    caption = write(loader, written, choice)
    return choice, Branch(choice.position, choice.alternative.token, "", caption)


def test_a_branch_keeps_the_tokens_before_it_and_goes_on_from_the_chosen_one(
    fake_loader: FakeLoader, written: Written
) -> None:
    choice, branch = go_on(fake_loader, written)
    old, new = written.step.captions[0], branch.caption
    assert new is not None
    assert new.token_ids[:3] == old.token_ids[:3]
    assert new.token_ids[3] == choice.alternative.token_id != old.token_ids[3]
    assert new.text.startswith(" ".join(old.text.split()[:3]))
    assert (new.prompt, new.num_prompt_tokens) == (old.prompt, old.num_prompt_tokens) == ("the sky", 2)
    assert fake_loader.fakes["embedded"].encoded == 1


def test_a_branch_may_be_branched_again(fake_loader: FakeLoader, written: Written) -> None:
    _, first = go_on(fake_loader, written)
    assert first.caption is not None
    grown = written.with_branches(0, [first])
    choice, second = go_on(fake_loader, grown, branch=0, position=5)
    assert choice.caption is first.caption
    assert second.caption is not None
    assert second.caption.token_ids[:5] == first.caption.token_ids[:5]
    assert [c.text for c in grown.captions()][:2] == [written.step.captions[0].text, first.caption.text]


def test_a_changed_word_of_the_prompt_shortens_the_prompt(fake_loader: FakeLoader, written: Written) -> None:
    _, branch = go_on(fake_loader, written, position=1)
    assert branch.caption is not None
    assert (branch.caption.prompt, branch.caption.num_prompt_tokens) == ("the", 1)


def test_choosing_the_end_ends_the_caption(fake_loader: FakeLoader, written: Written) -> None:
    choice = read_choice(written, click())
    end = fake_loader.fakes["embedded"].end_token
    ending = replace(choice, alternative=choice.alternative._replace(token_id=end.token_id, token=end.token))
    caption = write(fake_loader, written, ending)
    assert caption.token_ids == written.step.captions[0].token_ids[:3]
    assert "".join(caption.tokens) == caption.text


@pytest.mark.parametrize(
    "data",
    [
        {"caption": 9},
        {"branch": 0},
        {"position": 99},
        {"position": -1},
        {"choice": 7},
        {"choice": "1"},
        {"caption": None},
    ],
)
def test_what_is_not_there_cannot_be_chosen(written: Written, data: dict[str, object]) -> None:
    with pytest.raises(PromptError, match="word is gone"):
        read_choice(written, click(**data))
    with pytest.raises(PromptError, match="word is gone"):
        read_choice(None, click())


def test_only_the_newest_branches_stay_and_each_can_be_removed(written: Written) -> None:
    several = [Branch(3, f"w{number}", "x") for number in range(MOST_BRANCHES + 2)]
    grown = written.with_branches(0, several)
    assert [b.chosen for b in grown.branches[0]] == [b.chosen for b in several[2:]]
    assert [b.chosen for b in grown.without(0, 0).branches[0]] == [b.chosen for b in several[3:]]
    assert len(grown.value()["cards"][0]["captions"][0]["branches"]) == MOST_BRANCHES


def test_models_are_compared_in_the_order_chosen(fake_loader: FakeLoader, photo: Path) -> None:
    models = ["wordless", "embedded"]
    state, status = compare_models(
        fake_loader, str(photo), "auto", models, ["the sky", ""], DecodingOptions(), make_job()
    )
    assert [column.title for column in state.columns] == ["Wordless captioner", "Fake captioner"]
    assert [len(column.captions) for column in state.columns] == [1, 2]
    assert status.model_id == "embedded"
    value = comparison_value("done", state)
    assert value["models"][0]["takes_prompts"] is False
    assert value["models"][1]["captions"][0]["text"].startswith("the sky")


def test_a_model_that_fails_says_so_in_its_column_and_the_others_go_on(fake_loader: FakeLoader, photo: Path) -> None:
    models = ["no-such-model", "embedded"]
    state, _ = compare_models(fake_loader, str(photo), "auto", models, [""], DecodingOptions(), make_job())
    assert [column.state for column in state.columns] == ["failed", "done"]
    assert "There is no model 'no-such-model'" in state.columns[0].error


def test_a_comparison_that_nobody_waits_for_ends(fake_loader: FakeLoader, photo: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        compare_models(fake_loader, str(photo), "auto", ["embedded"], [""], DecodingOptions(), Job(stop))


def test_without_a_model_in_use_there_is_no_comparison(fake_loader: FakeLoader, photo: Path) -> None:
    with pytest.raises(UnknownModelError):
        compare_models(fake_loader, str(photo), "nothing", ["embedded"], [""], DecodingOptions(), make_job())


@pytest.mark.parametrize("value", [None, [], ["embedded"], ["embedded", " embedded "], list("abcde"), "embedded"])
def test_two_to_four_models_can_be_compared(value: object) -> None:
    with pytest.raises(OptionsError, match="takes 2 to 4 models"):
        read_models(value)


def test_models_are_read_each_once() -> None:
    assert read_models(["embedded", "/some/folder", "embedded", ""]) == ["embedded", "/some/folder"]
