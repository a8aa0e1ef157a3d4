"""One summary of many captions: the library's own beams, whole captions only, and a refusal of what cannot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from captioning.core.errors import ModelFilesError, PromptError, Stopped, UnknownModelError
from captioning.core.settings import Settings
from captioning.models.helpers import summarizer
from captioning.models.helpers.summarizer import MAX_SUMMARY_TOKENS, NUM_BEAMS, summarize
from tests.tiny_models import write_tiny_blip, write_tiny_summarizer

CAPTIONS = ["a dog in the park", "a dog in the park", "the woman is running"]


@pytest.fixture(autouse=True)
def _exact(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Full precision on the CPU, and no model from the test before."""
    monkeypatch.setattr("captioning.core.settings.get_settings", lambda: Settings(device="cpu", precision="float32"))
    summarizer._load.cache_clear()
    yield
    summarizer._load.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_summarizer(tmp_path / "bert2bert")


def test_the_summary_is_what_the_library_writes_for_the_captions_in_a_row(folder: Path) -> None:
    from transformers import BertTokenizerFast, EncoderDecoderModel

    model = EncoderDecoderModel.from_pretrained(folder).eval()
    tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"), tokenizer_file=str(folder / "tokenizer.json"))
    words = tokenizer("a dog in the park. the woman is running.", add_special_tokens=False).input_ids
    with torch.inference_mode():
        ids = model.generate(
            torch.tensor([[2, *words, 3]]),
            decoder_start_token_id=2,
            eos_token_id=3,
            pad_token_id=0,
            num_beams=NUM_BEAMS,
            max_new_tokens=MAX_SUMMARY_TOKENS,
        )[0]
    expected = tokenizer.decode(ids, skip_special_tokens=True)
    summary = summarize(str(folder), CAPTIONS)
    assert expected
    assert summary.text == expected
    assert summary.left_out == 0


def test_captions_that_do_not_fit_are_left_out_whole_and_counted(tmp_path: Path) -> None:
    folder = write_tiny_summarizer(tmp_path / "short", positions=16)
    many = [f"{caption} {number % 2}" for number, caption in enumerate(CAPTIONS * 4)]
    assert 0 < summarize(str(folder), many).left_out < len(many)


def test_other_captions_give_another_summary(folder: Path) -> None:
    assert summarize(str(folder), CAPTIONS).text != summarize(str(folder), ["two flowers"]).text


def test_it_stops_between_two_tokens(folder: Path) -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Stopped

    with pytest.raises(Stopped):
        summarize(str(folder), CAPTIONS, check)
    assert calls == 3


def test_without_captions_there_is_nothing_to_sum_up(folder: Path) -> None:
    with pytest.raises(PromptError, match="no captions"):
        summarize(str(folder), ["", " "])


def test_what_is_no_text_encoder_decoder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match=r"no text encoder-decoder .*bert2bert"):
        summarize(str(write_tiny_blip(tmp_path / "blip")), CAPTIONS)
    with pytest.raises(UnknownModelError, match="no such thing"):
        summarize("no such thing", CAPTIONS)
