"""Groups of similar pictures, and names for them from words that distinguish their captions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_SMALLEST = 5
_PRIOR_SHARE = 0.1
_MOST_WORDS = 4


def clusters(positions: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the group of every point `[n]` of a map `positions [n, 2]`: 0 is the largest group, -1 means none.

    HDBSCAN (Campello, Moulavi, Sander 2013) runs on the map, so that groups are those that people see there. In feature
    space nearly all distances are alike, and it would leave most pictures without a group. A group has at least five
    points, and at least a fiftieth of them.
    """
    from sklearn.cluster import HDBSCAN

    smallest = max(_SMALLEST, len(positions) // 50)
    if len(positions) < 2 * smallest:
        return np.full(len(positions), -1, np.int64)
    found = HDBSCAN(min_cluster_size=smallest, copy=True).fit_predict(positions)
    sizes = Counter(int(number) for number in found if number >= 0)
    order = {number: place for place, (number, _) in enumerate(sizes.most_common())}
    return np.array([order.get(int(number), -1) for number in found], np.int64)


def name_clusters(
    captions: Sequence[str], clusters: Sequence[int] | NDArray[np.int64], words: int = 2
) -> tuple[str, ...]:
    """Return names for the groups 0, 1, … of `clusters [n]`: words that their `captions [n]` use more than others.

    Words are ranked by their log-odds against all other captions with an informative Dirichlet prior, in standard
    deviations (Monroe, Colaresi, Quinn 2008). A word counts once a caption. A name has `words` words, or more where two
    groups would have the same name. A group without such words is "group 1" and so on, counted from 1.
    """
    numbers = np.asarray(clusters, np.int64)
    bags = [content_words(caption) for caption in captions]
    everywhere = _count_words(bags)
    ranked = []
    for group in range(int(numbers.max(initial=-1)) + 1):
        inside = _count_words(bags[place] for place in np.flatnonzero(numbers == group))
        ranked.append(_rank(inside, everywhere))
    return tuple(_distinct_names(ranked, words))


@cache
def _stop_words() -> frozenset[str]:
    """Read the words that say nothing about a picture, such as "the" and "photo"."""
    return frozenset((Path(__file__).parent / "stop_words.txt").read_text(encoding="utf-8").split())


def content_words(caption: str) -> frozenset[str]:
    """Return the lower-cased words of a caption without stop words."""
    return frozenset(re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", caption.lower())) - _stop_words()


def _count_words(bags: Iterable[frozenset[str]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for bag in bags:
        counts.update(bag)
    return counts


def _rank(inside: Counter[str], everywhere: Counter[str]) -> list[str]:
    """Return a group's words, the most distinguishing first; where none distinguishes it, the most frequent first."""
    total = sum(everywhere.values())
    own, prior_total = sum(inside.values()), _PRIOR_SHARE * total
    rest = total - own
    scores = {}
    for word, count in inside.items():
        prior = _PRIOR_SHARE * everywhere[word]
        other = everywhere[word] - count
        here = np.log((count + prior) / max(own + prior_total - count - prior, prior))
        there = np.log((other + prior) / max(rest + prior_total - other - prior, prior))
        scores[word] = (here - there) / np.sqrt(1 / (count + prior) + 1 / (other + prior))
    above = {word: score for word, score in scores.items() if score > 0} or dict.fromkeys(inside, 0.0)
    # Words of equal score are ordered by frequency, then by spelling, so that names are repeatable.
    return sorted(above, key=lambda word: (-above[word], -inside[word], word))


def _distinct_names(ranked: Sequence[Sequence[str]], words: int) -> list[str]:
    names: list[str] = []
    for place, choice in enumerate(ranked):
        if not choice:
            names.append(f"group {place + 1}")
            continue
        length = words
        while ", ".join(choice[:length]) in names and length < min(len(choice), _MOST_WORDS):
            length += 1
        name = ", ".join(choice[:length])
        names.append(name if name not in names else f"{name} ({place + 1})")
    return names
