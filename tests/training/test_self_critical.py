"""Self-critical training: rewards, drawn captions, and the effects of a reward on a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pycocoevalcap.cider.cider import Cider

from captioning.core.errors import OptionsError
from captioning.models.network import TrainableNetwork
from captioning.training.data import Photo, load_photos, plain_words
from captioning.training.fit import Trainer
from captioning.training.options import FURTHER, StartOptions, TrainingOptions
from captioning.training.photo_encoder import FEATURES_NAME, AugmentingEncoder, StoredFeatures
from captioning.training.run import train
from captioning.training.self_critical import (
    REPETITION_COST,
    TEMPERATURE,
    CiderReward,
    draw_captions,
    self_critical_loss,
)
from captioning.training.start import make_start
from tests.tiny_models import write_tiny_clip
from tests.training.conftest import write_data
from tests.training.test_fit import OPTIONS, SMALL

REWARDED = replace(
    FURTHER, passes=2, batch_size=6, reward_weight=5.0, samples=4, freeze_encoder=True, augmentation=1.0, views=2,
    learning_rate=2e-3, warmup_steps=2, checkpoint_steps=3, average_decay=0.9, max_tokens=12, opening_rate=0.0,
)  # fmt: skip
CAPTIONS = (
    ("A dog runs through the water .", "a brown dog is running in a lake"),
    ("Two boys play football .", "boys in red shirts kick a ball", "two children play"),
    ("A dog jumps over a dog .",),
)
PHOTOS = (
    *(Photo(f"{number}.jpg", "train", "", captions) for number, captions in enumerate(CAPTIONS)),
    Photo("kind.jpg", "train", "anchor", ()),
)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny captioner that was trained briefly by cross-entropy."""
    folder = tmp_path_factory.mktemp("learnt")
    out = folder / "model"
    train(write_data(folder / "data"), out, SMALL, replace(OPTIONS, passes=4, opening_rate=0.0), lambda _: None)
    return out


def make_trainer(data_folder: Path, out: Path, learnt: Path, options: TrainingOptions = REWARDED) -> Trainer:
    data = load_photos(data_folder, "train", side=48)
    start = make_start(data.photos, options, StartOptions(start_from=str(learnt)))
    return Trainer(start, data, out, options, torch.device("cpu"))


def state_of(trainer: Trainer, part: str) -> dict[str, torch.Tensor]:
    state = trainer.network.module.state_dict()
    return {name: value.clone() for name, value in state.items() if name.startswith(part)}


def mean_reward(trainer: Trainer) -> float:
    """Return the mean reward of captions that the trainer's network draws for all photographs with captions."""
    photos = trainer._photos
    places = [place for place, photo in enumerate(photos) if photo.captions]
    with torch.no_grad(), trainer.averaged() as network:
        states = trainer.photo_encoder.encode(torch.tensor(places), 0).states
        return self_critical_loss(network, states, trainer.start.layout, places, CiderReward(photos), 16, 12, 7)[1]


@pytest.mark.parametrize("written", [
    ("a dog runs in the lake", "two boys play in the water", "a dog jumps over a dog"),
    ("A dog, a ball.", "", "ball"),
])  # fmt: skip
def test_the_reward_is_the_cider_that_captions_are_measured_by(written: tuple[str, ...]) -> None:
    reward = CiderReward(PHOTOS)
    references = {number: [plain_words(text) for text in texts] for number, texts in enumerate(CAPTIONS)}
    whole = Cider().compute_score(references, {n: [plain_words(text)] for n, text in enumerate(written)})[1]
    rewards = reward.score([[text] for text in written], [0, 1, 2])
    assert [score for scores in rewards for score in scores] == pytest.approx(list(whole))
    assert reward.score([written], [1])[0][1] == pytest.approx(whole[1])
    assert reward.score([CAPTIONS[2]], [2])[0] == pytest.approx([10.0])


def test_a_phrase_that_comes_twice_costs() -> None:
    reward = CiderReward(PHOTOS)
    references = {number: [plain_words(text) for text in texts] for number, texts in enumerate(CAPTIONS)}
    written = "a dog jumps and a dog jumps"
    plain = Cider().compute_score(references, {number: [written] for number in references})[1]
    scores = [twice for (twice,) in reward.score([[written]] * 3, [0, 1, 2])]
    assert scores == pytest.approx(list(plain - REPETITION_COST))


def test_what_fits_other_photographs_as_well_wins_less() -> None:
    plain, specific = CiderReward(PHOTOS), CiderReward(PHOTOS, specificity=2.0)
    caption = "a dog"
    (own,), (other,), (third,) = plain.score([[caption]] * 3, [0, 1, 2])
    assert third > other == 0.0
    assert specific.score([[caption]] * 3, [0, 1, 2])[0] == pytest.approx([own - 2.0 * (other + third) / 2])
    assert specific.score([[caption]], [0]) == [[own]]


def test_captions_are_drawn_by_the_networks_sharpened_odds(data_folder: Path, tmp_path: Path, learnt: Path) -> None:
    trainer = make_trainer(data_folder, tmp_path / "out", learnt)
    network, layout = trainer.network, trainer.start.layout
    network.module.eval()
    states = trainer.photo_encoder.encode(torch.tensor([0]), 0).states.detach()
    ids, lengths = draw_captions(network, states, layout, 2000, 1, torch.Generator().manual_seed(0))
    assert ids.shape == (2000, len(network.start_ids) + 1)
    assert lengths.tolist() == [1] * 2000
    start = torch.tensor([network.start_ids])
    with torch.no_grad():
        logits = network.step(start, torch.ones_like(start), network.start(states, layout))[0, -1]
    expected = (logits / TEMPERATURE).softmax(dim=-1)
    drawn = ids[:, -1].bincount(minlength=len(expected)) / 2000
    assert (drawn - expected).abs().max() < 0.04  # over three standard errors of a share of a half
    opening = network.text_to_ids("the red")
    after, _ = draw_captions(network, states, layout, 2, 3, torch.Generator().manual_seed(0), opening)
    assert after[:, : len(network.start_ids) + len(opening)].tolist() == [[*network.start_ids, *opening]] * 2
    again = draw_captions(network, states, layout, 5, 12, torch.Generator().manual_seed(3))
    same = draw_captions(network, states, layout, 5, 12, torch.Generator().manual_seed(3))
    assert torch.equal(again[0], same[0])
    for row, length in zip(*(values.tolist() for values in again), strict=True):
        own = row[len(network.start_ids) :][:length]
        assert network.end_id not in own[:-1]
        assert own[-1] == network.end_id or length == 12


def test_a_step_makes_what_was_rewarded_likelier_and_the_rest_less(
    data_folder: Path, tmp_path: Path, learnt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(data_folder, tmp_path / "out", learnt)
    network, layout = trainer.network, trainer.start.layout
    network.module.eval()
    states = trainer.photo_encoder.encode(torch.tensor([0]), 0).states.detach()
    start = [*network.start_ids]
    better, worse = network.text_to_ids("red")[0], network.text_to_ids("blue")[0]
    drawn = torch.tensor([[*start, better, network.end_id], [*start, worse, network.end_id]])
    monkeypatch.setattr("captioning.training.self_critical.draw_captions", lambda *_: (drawn, torch.tensor([2, 2])))
    reward = _FixedReward({network.ids_to_text([better]): 3.0, network.ids_to_text([worse]): 1.0})

    def log_odds(network: TrainableNetwork) -> float:
        ids = torch.tensor([start])
        logits = network.step(ids, torch.ones_like(ids), network.start(states, layout))[0, -1]
        return float((logits[better] - logits[worse]).detach())

    before = log_odds(network)
    loss, mean = self_critical_loss(network, states, layout, [0], reward, 2, 12, 0)
    assert mean == 2.0
    loss.backward()  # type: ignore[no-untyped-call]
    trainer.optimizer.step()
    assert log_odds(network) > before


def test_what_is_drawn_after_an_opening_is_rewarded_for_its_own_words(
    data_folder: Path, tmp_path: Path, learnt: Path
) -> None:
    trainer = make_trainer(data_folder, tmp_path / "out", learnt)
    places = [place for place, photo in enumerate(trainer._photos) if photo.captions][:2]
    states = trainer.photo_encoder.encode(torch.tensor(places), 0).states.detach()
    told: list[str] = []

    class _Listening(CiderReward):
        def score(self, captions: Any, places: Any) -> list[list[float]]:
            told.extend(text for texts in captions for text in texts)
            return super().score(captions, places)

    reward = _Listening(trainer._photos)
    layout = trainer.start.layout
    loss, _ = self_critical_loss(trainer.network, states, layout, places, reward, 3, 6, 0, "a photography of")
    assert len(told) == 6
    assert not any("photography" in text for text in told)
    assert torch.isfinite(loss)


class _FixedReward(CiderReward):
    """A fake reward that looks the text up."""

    def __init__(self, rewards: dict[str, float]) -> None:
        super().__init__(PHOTOS)
        self._rewards = rewards

    def score(self, captions: Any, places: Any) -> list[list[float]]:
        return [[self._rewards[caption] for caption in texts] for texts in captions]


def test_a_run_raises_the_reward_and_leaves_the_encoder_as_it_was(
    data_folder: Path, tmp_path: Path, learnt: Path
) -> None:
    trainer = make_trainer(data_folder, tmp_path / "out", learnt, replace(REWARDED, passes=8))
    encoder, decoder, before = (
        state_of(trainer, "image_encoder"),
        state_of(trainer, "text_decoder"),
        mean_reward(trainer),
    )
    list(trainer.run(lambda _: None))
    assert mean_reward(trainer) > before + 0.3
    after = state_of(trainer, "image_encoder")
    assert all(torch.equal(value, after[name]) for name, value in encoder.items())
    changed = state_of(trainer, "text_decoder")
    assert not any(torch.equal(value, changed[name]) for name, value in decoder.items() if value.ndim > 1)


def test_a_whole_run_tells_its_reward_and_keeps_no_features(data_folder: Path, tmp_path: Path, learnt: Path) -> None:
    out = tmp_path / "out"
    lines: list[str] = []
    options = replace(REWARDED, passes=4)  # more than the twenty steps after which it reports
    train(data_folder, out, StartOptions(start_from=str(learnt)), options, lines.append)
    assert not list(out.glob(f"{FEATURES_NAME}*"))
    assert "encoded 48 of 48" in lines
    records = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    (reward,) = (record["train/reward"] for record in records if "train/reward" in record)
    assert reward > 0
    assert any(f"reward {reward:.3f}" in line for line in lines)
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "--reward-weight 5.0 --samples 4 --freeze-encoder" in card


def test_a_killed_run_goes_on_with_the_features_it_has(data_folder: Path, tmp_path: Path, learnt: Path) -> None:
    unbroken = make_trainer(data_folder, tmp_path / "a", learnt)
    assert isinstance(unbroken.photo_encoder, StoredFeatures)
    assert list(unbroken.run(lambda _: None)) == [1, 2]

    broken = make_trainer(data_folder, tmp_path / "b", learnt)
    assert next(broken.run(lambda _: None)) == 1
    views = sorted((tmp_path / "b").glob(f"{FEATURES_NAME}*"), key=lambda path: path.stat().st_mtime_ns)
    assert len(views) == 2
    kept = views[1]
    whole = kept.read_bytes()
    assert whole == (tmp_path / "a" / kept.name).read_bytes() != views[0].read_bytes()
    kept.write_bytes(whole[: len(whole) * 2 // 3])  # killed while it was encoding
    told: list[tuple[int, int]] = []
    data = load_photos(data_folder, "train", side=48)
    start = make_start(data.photos, REWARDED, StartOptions(start_from=str(learnt)))
    resumed = Trainer(
        start, data, tmp_path / "b", REWARDED, torch.device("cpu"), report=lambda *count: told.append(count)
    )
    assert told == [(48, 48)]  # the first view was whole
    assert kept.read_bytes() == whole
    assert list(resumed.run(lambda _: None)) == [2]
    for name, value in unbroken.network.module.state_dict().items():
        torch.testing.assert_close(resumed.network.module.state_dict()[name], value, rtol=1e-3, atol=1e-4)


def test_features_of_other_photographs_are_not_taken_for_those_of_a_run(
    data_folder: Path, tmp_path: Path, learnt: Path
) -> None:
    out = tmp_path / "out"
    make_trainer(data_folder, out, learnt)  # killed before its first checkpoint
    table = data_folder / "captions.tsv"
    head, *lines = table.read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join([head, *reversed(lines)]) + "\n", encoding="utf-8")
    turned = make_trainer(data_folder, out, learnt).photo_encoder
    expected = make_trainer(data_folder, tmp_path / "other", learnt).photo_encoder
    places = torch.arange(24)
    assert torch.equal(turned.encode(places, 0).states, expected.encode(places, 0).states)


def test_a_photograph_is_seen_in_any_of_its_views(data_folder: Path, tmp_path: Path, learnt: Path) -> None:
    photo_encoder = make_trainer(data_folder, tmp_path / "out", learnt).photo_encoder
    places = torch.tensor([4] * 12)
    seen = photo_encoder.encode(places, seed=1).states
    assert len({values.numpy().tobytes() for values in seen}) == 2
    assert torch.equal(seen, photo_encoder.encode(places, seed=1).states)


def test_runs_with_other_seeds_share_their_features(data_folder: Path, tmp_path: Path, learnt: Path) -> None:
    photo_encoders = [
        make_trainer(data_folder, tmp_path / "out", learnt, replace(REWARDED, seed=seed)).photo_encoder
        for seed in (0, 1)
    ]
    assert len(list((tmp_path / "out").glob(f"{FEATURES_NAME}*"))) == 2  # a file a view
    places = torch.arange(24)
    assert torch.equal(*(photo_encoder.encode(places, 7).states for photo_encoder in photo_encoders))


def test_what_cannot_be_frozen_or_kept_is_refused(data_folder: Path, tmp_path: Path, learnt: Path) -> None:
    photos = load_photos(data_folder, "train", 8).photos
    with pytest.raises(OptionsError, match="where a model is trained further"):
        make_start(photos, REWARDED, SMALL)
    for smaller in (replace(REWARDED, training_size=24), replace(REWARDED, training_size=24, views=0, augmentation=0)):
        with pytest.raises(OptionsError, match="leave out --training-size, or look anew"):
            make_trainer(data_folder, tmp_path / "small", learnt, smaller)
    anew = make_trainer(data_folder, tmp_path / "anew", learnt, replace(REWARDED, training_size=24, views=0))
    assert isinstance(anew.photo_encoder, AugmentingEncoder)
    same = make_trainer(data_folder, tmp_path / "same", learnt, replace(REWARDED, training_size=48))
    assert isinstance(same.photo_encoder, StoredFeatures)
    with pytest.raises(OptionsError, match="leave out --views"):
        make_trainer(data_folder, tmp_path / "a", learnt, replace(REWARDED, freeze_encoder=False))
    with pytest.raises(OptionsError, match="not frozen learns an embedding"):
        make_trainer(data_folder, tmp_path / "b", learnt, replace(REWARDED, contrastive_weight=0.1))
    clip = StartOptions(f"clip:{write_tiny_clip(tmp_path / 'clip')}")
    with pytest.raises(OptionsError, match="leave out --freeze-encoder"):
        make_start(photos, REWARDED, clip)
    with pytest.raises(OptionsError, match="samples must be between 2 and 64, not 1"):
        TrainingOptions(samples=1)
