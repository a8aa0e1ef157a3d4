"""What a field says of itself: its range, its texts, and how a text becomes a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from captioning.core.errors import OptionsError
from captioning.core.options import Option, check_fields, parameters
from captioning.core.settings import Settings
from captioning.core.types import DecodingOptions
from captioning.image_map.options import MapOptions


@dataclass(frozen=True)
class Walk:
    """An example of a values class."""

    steps: Annotated[int, Option("steps of the walk", low=1, high=9)] = 3
    pace: Annotated[float, Option("seconds a step takes", low=0)] = 0.5
    ground: Annotated[Literal["sand", "grass"], "what is walked on"] = "sand"
    alone: Annotated[bool, "whether nobody comes along"] = True
    name: Annotated[str, "what the walk is called"] = ""

    def __post_init__(self) -> None:
        check_fields(self)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"steps": 10}, "steps must be between 1 and 9, not 10."),
        ({"steps": 2.0}, "steps must be a whole number, not 2.0."),
        ({"steps": True}, "steps must be a whole number, not True."),
        ({"pace": "fast"}, "pace must be a number, not 'fast'."),
        ({"pace": -1}, "pace must be at least 0, not -1."),
        ({"pace": float("nan")}, "pace must be at least 0, not nan."),
        ({"ground": "ice"}, "There is no ground 'ice'; choose from sand, grass."),
        ({"ground": ["sand"]}, "There is no ground ['sand']; choose from sand, grass."),
        ({"alone": 1}, "alone must be true or false, not 1."),
        ({"name": None}, "name must be a text, not None."),
    ],
)
def test_a_wrong_value_is_one_sentence_with_its_name(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OptionsError) as error:
        Walk(**values)
    assert str(error.value) == sentence


def test_a_long_wrong_value_is_not_repeated_whole() -> None:
    with pytest.raises(OptionsError) as error:
        Walk(steps="9" * 10_000)  # type: ignore[arg-type]
    assert len(str(error.value)) < 100


def test_texts_become_values_of_the_right_kind() -> None:
    read = {parameter.name: parameter.read for parameter in parameters(Walk)}
    assert [read["steps"]("4"), read["pace"]("2"), read["ground"]("grass"), read["alone"]("False")] == [
        4,
        2.0,
        "grass",
        False,
    ]
    for name, text in (("steps", "4.5"), ("pace", "x"), ("ground", ""), ("alone", "maybe")):
        with pytest.raises(OptionsError, match=name):
            read[name](text)


def test_a_parameter_says_what_it_means_what_it_may_be_and_what_it_is_unless_told() -> None:
    assert [parameter.meaning for parameter in parameters(Walk)[:3]] == [
        "steps of the walk (between 1 and 9; default: 3)",
        "seconds a step takes (at least 0; default: 0.5)",
        "what is walked on (sand, grass; default: 'sand')",
    ]


@pytest.mark.parametrize("kind", [DecodingOptions, MapOptions])
def test_every_option_has_a_label_and_a_control_within_its_range(kind: type) -> None:
    for parameter in parameters(kind):
        option = parameter.option
        assert option.label, f"{parameter.name} has no label"
        if option.slider is not None:
            low, high, step = option.slider
            for end in (low, high):
                parameter.check(parameter.kind(end))
            assert low < high
            assert low <= (parameter.default if option.start is None else option.start) <= high
            assert step > 0


def test_every_setting_says_what_it_means() -> None:
    assert all(parameter.option.help for parameter in parameters(Settings))
    with pytest.raises(OptionsError, match="CAPTIONSCOPE_QUEUE_SIZE must be at least 0, not -5"):
        Settings.from_environment({"CAPTIONSCOPE_QUEUE_SIZE": "-5"})
    with pytest.raises(OptionsError, match="There is no CAPTIONSCOPE_LOGIN 'github'; choose from none, huggingface"):
        Settings.from_environment({"CAPTIONSCOPE_LOGIN": "github"})
