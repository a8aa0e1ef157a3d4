from __future__ import annotations

import torch

from captioning.training.augment import augment


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
