from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from captioning.bench import CASES, BenchResult, as_table, run_cases
from captioning.bench.machine import MachineLimit
from captioning.bench.result import BenchCase, NotMeasuredError, result_with_reference, result_without_reference
from captioning.bench.setup import Setup
from captioning.bench.timing import take_turns


def made_up(setup: Setup, repetitions: int) -> list[BenchResult]:
    return [
        result_with_reference("made_up", [1.0, 3.0, 2.0][:repetitions], [8.0, 6.0, 7.0][:repetitions], 0.5, "here"),
        result_without_reference("made_up", [4.0] * repetitions, "there", "MB"),
    ]


@pytest.fixture
def only_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(CASES):
        monkeypatch.delitem(CASES, name)
    monkeypatch.setitem(CASES, "made_up", BenchCase("made_up", "a made-up case", made_up, quick=True))
    monkeypatch.setitem(CASES, "long", BenchCase("long", "a long one", made_up))


def test_every_case_has_a_name_of_its_own_and_a_title() -> None:
    assert all(name == case.name and case.title for name, case in CASES.items())
    assert len({case.title for case in CASES.values()}) == len(CASES)
    assert any(case.quick for case in CASES.values())


@pytest.mark.usefixtures("only_made_up")
def test_a_short_run_measures_few_cases_and_a_named_one_is_always_measured() -> None:
    said: list[str] = []
    assert [r.case for r in run_cases([], quick=True, report=said.append)] == ["made_up"] * 2
    assert len(run_cases([], quick=False, report=said.append)) == 4
    assert len(run_cases(["long"], quick=True, report=said.append)) == 2
    assert said[0] == "made_up: a made-up case"


@pytest.mark.usefixtures("only_made_up")
def test_what_cannot_be_measured_here_is_said_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def half(setup: Setup, repetitions: int) -> Iterator[BenchResult]:
        yield result_without_reference("half", [1.0], "before")
        raise NotMeasuredError("There is no browser; install one.")

    def nothing(setup: Setup, repetitions: int) -> Iterator[BenchResult]:
        raise NotMeasuredError("There is no browser; install one.")

    monkeypatch.setitem(CASES, "half", BenchCase("half", "half of it", half))
    monkeypatch.setitem(CASES, "nothing", BenchCase("nothing", "nothing at all", nothing))
    said: list[str] = []
    assert [r.case for r in run_cases(["half", "made_up"], True, said.append)] == ["half", "made_up", "made_up"]
    assert "half: not measured. There is no browser; install one." in said
    with pytest.raises(NotMeasuredError, match="install one"):
        run_cases(["nothing"], True, said.append)


def test_a_page_without_a_browser_to_open_it_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    with pytest.raises(NotMeasuredError, match=r"requirements-dev\.txt"):
        run_cases(["explorer"], True, lambda _: None)


@pytest.mark.usefixtures("only_made_up")
def test_results_are_medians_with_half_the_range_and_the_table_shows_them() -> None:
    first, second = made_up(Setup(), 3)
    assert (first.value, first.reference, first.ratio, first.spread) == (2.0, 7.0, 3.5, 1.0)
    table = as_table([first, second])
    assert "| a made-up case | 2.00 ± 1.00 s | 7.00 ± 1.00 s | **3.50×** | 0.50 s | here |" in table
    assert "| a made-up case | 4.00 ± 0.00 MB | – | – | – | there |" in table


def test_ours_and_the_reference_take_turns_after_one_that_is_not_measured() -> None:
    order: list[str] = []
    ours, reference = take_turns(lambda: order.append("o"), lambda: order.append("r"), 3)
    assert "".join(order) == "or" * 4
    assert len(ours) == len(reference) == 3


def test_the_limit_adds_products_and_reading() -> None:
    assert MachineLimit(1e9, 1e8, "bfloat16").seconds(2e9, 3e8) == pytest.approx(5)
    assert MachineLimit(1, 1, "bfloat16").item_bytes == 2
    assert MachineLimit(1, 1, "float32").item_bytes == 4
