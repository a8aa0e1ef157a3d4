"""Pictures that are on every machine."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from captioning.media.collection import (
    Collection,
    NamedImage,
)

_DIGIT_SIDE = 160


@cache
def sample_collection() -> Collection:
    """Real photographs that installed packages bring along; those that are on this machine."""
    images = []
    for package, folder, files in (
        ("gradio", "media_assets/images", ("cheetah.jpg", "cheetah1.jpg", "lion.jpg", "tower.jpg")),
        ("gradio", "test_data", ("cheetah2.jpg",)),
        ("sklearn", "datasets/images", ("china.jpg", "flower.jpg")),
    ):
        # Looked for, not imported: the package may be heavy, or missing.
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            home = Path(spec.origin).parent / folder
            images += [NamedImage(file, home / file, folder=package) for file in files if (home / file).is_file()]
    return Collection(tuple(images))


def digit_collection(into: Path, count: int = 300) -> Collection:
    """Handwritten digits of scikit-learn, evenly taken, with their labels: 8 × 8 greys drawn larger below `into`.

    So many that UMAP has neighbours to go by, of kinds that anybody can check (Alpaydin and Kaynak 1998, CC BY 4.0).
    """
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    folder = into / "digits"
    folder.mkdir(exist_ok=True)
    images = []
    for place in np.linspace(0, len(digits.images), count, endpoint=False).astype(int).tolist():
        ink, label = digits.images[place] / 16, str(digits.target[place])
        path = folder / f"{place:04d}.png"
        paper = Image.fromarray(np.rint(255 * (1 - ink)).astype(np.uint8))
        paper.resize((_DIGIT_SIDE, _DIGIT_SIDE), Image.Resampling.BICUBIC).save(path)
        images.append(NamedImage(f"digit-{label}-{place:04d}.png", path, label))
    return Collection(tuple(images))


# ---- names ----
