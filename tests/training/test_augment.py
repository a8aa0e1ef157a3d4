from __future__ import annotations

import pytest
import torch

from captioning.training.augment import augment, cut_mix, lay_over


def pictures(count: int = 6) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def changed(seed: int, strength: float = 1.0) -> torch.Tensor:
    return augment(pictures(), (24, 36), (2, 3), torch.Generator().manual_seed(seed), strength)


def test_pictures_vary_and_repeat_with_their_generator() -> None:
    first, again, other = (changed(seed) for seed in (1, 1, 2))
    assert first.shape == (6, 3, 24, 36)
    assert first.min() >= 0
    assert first.max() <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_strength_0_only_resizes() -> None:
    assert torch.equal(changed(1, 0), changed(2, 0))
    same = augment(pictures(), (40, 40), (4, 4), torch.Generator(), 0)
    torch.testing.assert_close(same, pictures() / 255)


def test_a_stronger_change_moves_pictures_further_from_themselves() -> None:
    grey = torch.full((64, 3, 24, 24), 128, dtype=torch.uint8)
    distances = [
        (augment(grey, (24, 24), (2, 2), torch.Generator().manual_seed(0), strength) - 128 / 255).abs().mean()
        for strength in (0.0, 0.3, 1.0)
    ]
    assert distances[0] < 1e-6 < distances[1] < distances[2]


def test_mixed_pictures_keep_the_share_that_is_told_and_take_the_rest_from_their_partners() -> None:
    plain = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 3, 20, 30).contiguous()
    for seed in range(6):
        mixed, partners, share = cut_mix(plain, torch.Generator().manual_seed(seed))
        for number, (picture, partner) in enumerate(zip(mixed, partners.tolist(), strict=True)):
            assert set(picture.unique().tolist()) <= {float(number), float(partner)}
            if partner != number:
                assert (picture == number).float().mean() == pytest.approx(share)
    assert torch.equal(plain[:, 0, 0, 0], torch.arange(5.0))  # what was given stays


def test_things_laid_over_backgrounds_are_whole_small_and_anywhere() -> None:
    things, backgrounds = torch.ones(40, 3, 36, 48), torch.zeros(40, 3, 36, 48)
    laid = lay_over(things, backgrounds, torch.Generator().manual_seed(0))
    centres = []
    for picture in laid:
        rows, columns = (picture[0] > 0).any(dim=1).nonzero()[:, 0], (picture[0] > 0).any(dim=0).nonzero()[:, 0]
        assert picture.mean() == pytest.approx(len(rows) * len(columns) / (36 * 48))  # one rectangle, wholly inside
        assert 12 <= len(rows) <= 24
        assert len(columns) == pytest.approx(len(rows) * 48 / 36, abs=1)
        centres.append((float(rows.float().mean()), float(columns.float().mean())))
    assert all(torch.tensor(centres).std(dim=0) > torch.tensor([4.0, 6.0]))
    assert not backgrounds.any()  # what was given stays


def test_what_is_laid_over_a_background_has_no_more_detail_than_the_rest() -> None:
    stripes = (torch.arange(96) % 2).float().expand(1, 3, 96, 96).contiguous()
    grey = torch.full((1, 3, 96, 96), 0.5)
    sharp, blurred = (lay_over(stripes, grey, torch.Generator().manual_seed(0), detail) for detail in (None, 12))
    assert blurred.shape == sharp.shape
    assert (blurred - 0.5).abs().max() < 0.5 * (sharp - 0.5).abs().max()
