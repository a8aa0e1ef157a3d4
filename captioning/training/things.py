"""Words that name the same thing: singulars of nouns, and a short list of everyday synonyms."""

from __future__ import annotations

from captioning.training.data import plain_words

_IRREGULAR = {
    "buses": "bus",
    "children": "child",
    "geese": "goose",
    "knives": "knife",
    "leaves": "leaf",
    "men": "man",
    "mice": "mouse",
    "people": "person",
    "teeth": "tooth",
    "women": "woman",
}
_PEOPLE = (
    *("baby", "boy", "child", "girl", "guy", "kid", "lady", "man", "person", "toddler", "woman"),
    *("climber", "cyclist", "player", "rider", "runner", "skateboarder", "skier", "snowboarder", "surfer"),
)
_SYNONYMS = dict.fromkeys(_PEOPLE, "person") | {
    "aeroplane": "airplane",
    "bike": "bicycle",
    "cellphone": "cell phone",
    "doughnut": "donut",
    "fridge": "refrigerator",
    "jet": "airplane",
    "kitten": "cat",
    "motorbike": "motorcycle",
    "plane": "airplane",
    "puppy": "dog",
    "ski": "skis",
    "sofa": "couch",
    "television": "tv",
}
"""Each word's usual name, as in COCO's categories.

Only people and vehicles whose name says nothing more than their kind are listed.
"""


def singular(word: str) -> str:
    """Return the singular of an English noun in lower case, by rule; a word that is no plural stays unchanged."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def usual_name(word: str) -> str:
    """Return the usual name of the thing that a word names: "person" for "women", the singular for most others."""
    return _SYNONYMS.get(singular(word), singular(word))


def things_named(text: str) -> set[str]:
    """Return the usual name of every word of a text."""
    return {usual_name(word.removesuffix("'s")) for word in plain_words(text).split()}
