from __future__ import annotations

import pytest

from captioning.errors import OptionsError, PromptError
from captioning.prompts import DEFAULT_PROMPTS, check_prompts
from captioning.settings import Settings


def test_environment_overrides_defaults_and_leaves_other_variables_alone() -> None:
    settings = Settings.from_environment(
        {"CAPTIONSCOPE_MODEL": "embedded", "CAPTIONSCOPE_MAX_PROMPTS": "3", "HOME": "/"}
    )
    assert (settings.model, settings.max_prompts) == ("embedded", 3)
    assert settings.queue_size == Settings().queue_size


@pytest.mark.parametrize(("name", "value"), [("CAPTIONSCOPE_MAX_PROMPT", "3"), ("CAPTIONSCOPE_MAX_PROMPTS", "many")])
def test_unknown_or_unreadable_setting_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(OptionsError, match=name):
        Settings.from_environment({name: value})


def test_prompts_are_stripped_and_repeats_dropped() -> None:
    assert check_prompts(["  a dog", "a dog ", "", " "]) == ["a dog", ""]
    assert check_prompts(DEFAULT_PROMPTS) == list(DEFAULT_PROMPTS)


@pytest.mark.parametrize(
    ("prompts", "says"),
    [([], "no prompt"), ([str(n) for n in range(200)], "200 prompts"), (["x" * 5000], "5,000 characters")],
)
def test_unusable_prompts_are_refused_with_the_cure(prompts: list[str], says: str) -> None:
    with pytest.raises(PromptError, match=says):
        check_prompts(prompts)
