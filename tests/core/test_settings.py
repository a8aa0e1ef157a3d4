from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from captioning.captions.prompts import DEFAULT_PROMPTS, check_prompts
from captioning.core.errors import OptionsError, PromptError
from captioning.core.settings import Settings


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


def test_every_setting_is_listed_with_its_variable_its_value_and_what_it_means() -> None:
    lines = Settings(max_prompts=3).describe().splitlines()
    assert len(lines) == 2 * len(fields(Settings))
    assert "CAPTIONSCOPE_MAX_PROMPTS=3" in lines
    assert all(line.strip() for line in lines)
    assert "secret" not in Settings(password="secret").describe()


def test_the_settings_are_printed_without_opening_a_page() -> None:
    done = subprocess.run(
        [sys.executable, "app.py", "--show-settings"],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"CAPTIONSCOPE_QUEUE_SIZE": "5"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "CAPTIONSCOPE_QUEUE_SIZE=5" in done.stdout
