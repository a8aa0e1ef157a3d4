from __future__ import annotations

from pathlib import Path

import pytest
from PIL import ExifTags, Image

from captioning.core.errors import DataError, OptionsError
from captioning.training.data import (
    Photo,
    class_names,
    evaluation_side,
    load_photos,
    make_tokenizer,
    plain_words,
    read_table,
    with_article,
)


def test_plain_words_drop_case_and_punctuation_and_keep_inner_marks() -> None:
    assert plain_words("A man 's T-shirt , torn !") == "a man's t-shirt torn"
    assert plain_words("Ein grüner Café-Tisch_2 .") == "ein grüner café-tisch 2"
    assert plain_words("一只 狗。") == "一只 狗"


@pytest.mark.parametrize(("noun", "said"), [("anchor", "an anchor"), ("dog", "a dog"), ("euphonium", "a euphonium")])
def test_nouns_get_their_article(noun: str, said: str) -> None:
    assert with_article(noun) == said


def test_table_groups_the_captions_of_a_photograph(data_folder: Path) -> None:
    photos = read_table(data_folder)
    assert len(photos) == 36
    first = photos[0]
    assert first == Photo("people/0.jpg", "train", "", ("A red field .", "the red wall"))
    assert class_names(photos) == ("blue anchor", "green anchor", "red anchor")


def test_pictures_come_from_files_and_tars_alike(data_folder: Path) -> None:
    data = load_photos(data_folder, "train", side=16)
    assert data.pixels.shape == (24, 3, 16, 16)
    for photo, pixels in zip(data.photos, data.pixels, strict=True):
        number = int(Path(photo.name).stem)
        assert pixels.mean(axis=(1, 2)).argmax() == number % 3


def test_pictures_are_turned_upright_and_laid_on_white(tmp_path: Path) -> None:
    tall = Image.new("RGB", (20, 40), "black")
    tall.paste((255, 255, 255), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # its left is up
    tall.save(tmp_path / "turned.png", exif=exif)
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "glass.png")
    rows = "".join(f"{name}\ttrain\tthing\t\n" for name in ("turned.png", "glass.png"))
    (tmp_path / "captions.tsv").write_text("image\tsplit\tclass_name\tcaption\n" + rows, encoding="utf-8")
    turned, glass = load_photos(tmp_path, "train", side=8).pixels
    assert turned[:, :, :3].mean() < 10
    assert turned[:, :, 5:].mean() > 245
    assert glass.min() == 255


@pytest.mark.parametrize("row", ["a.jpg\ttrain\t\t", "a.jpg\ttrain", "a.jpg\t\tdog\t", "\ttrain\tdog\t"])
def test_a_row_that_says_nothing_is_named_by_its_line(row: str, tmp_path: Path) -> None:
    text = f"image\tsplit\tclass_name\tcaption\nb.jpg\ttrain\tdog\t\n{row}\n"
    (tmp_path / "captions.tsv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"Line 3 of .* lacks"):
        read_table(tmp_path)


def test_limit_spreads_over_the_table(data_folder: Path) -> None:
    kinds = [photo.class_name for photo in load_photos(data_folder, "train", side=8, limit=8).photos]
    assert any(kinds)
    assert not all(kinds)


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_that_leaves_nothing_is_refused(data_folder: Path, limit: int) -> None:
    with pytest.raises(OptionsError, match=f"A limit of {limit} leaves no photographs; give 1 or more"):
        load_photos(data_folder, "train", side=8, limit=limit)


def test_bad_data_folders_are_refused(data_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no captions\.tsv"):
        read_table(tmp_path)
    with pytest.raises(DataError, match="no photograph of split 'test'"):
        load_photos(data_folder, "test")
    (data_folder / "people" / "3.jpg").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"people/3\.jpg .* not a readable picture"):
        load_photos(data_folder, "train")
    (data_folder / "people" / "3.jpg").unlink()
    with pytest.raises(DataError, match=r"1 photographs .* people/3\.jpg"):
        load_photos(data_folder, "train")
    (data_folder / "captions.tsv").write_text("a,b\n", encoding="utf-8")
    with pytest.raises(DataError, match="must start with the columns"):
        read_table(data_folder)


def test_a_picture_that_two_folders_name_is_that_of_the_first(data_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "people").mkdir(parents=True)
    for name in ("people/0.webp", "people/new.png"):
        Image.new("RGB", (64, 64), "white").save(other / name)
    rows = "".join(f"{name}\ttrain\t\tA white field .\n" for name in ("people/0.webp", "people/new.png"))
    (other / "captions.tsv").write_text("image\tsplit\tclass_name\tcaption\n" + rows, encoding="utf-8")
    for folders, first in (((other, data_folder), "people/0.webp"), ((data_folder, other), "people/0.jpg")):
        names = [photo.name for photo in read_table(folders)]
        assert len(names) == 37
        assert first in names
        data = load_photos(folders, "train", side=8)
        white = {photo.name for photo, pixels in zip(data.photos, data.pixels, strict=True) if pixels.min() > 250}
        assert white == ({"people/0.webp", "people/new.png"} if folders[0] == other else {"people/new.png"})


def words_of(*captions: str, times: int = 3) -> tuple[Photo, ...]:
    return (Photo("a.jpg", "train", "", captions * times), Photo("b.jpg", "train", "totem pole", ()))


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("A  t-shirt,\ta man's", [" a", " t-shirt", ",", " a", " man's"]),
        ("The Totem pole <eos>", [" the", " totem", " pole", " ", "<", "e", "o", "s", ">"]),
        ("dogs", [" ", "d", "o", "g", "s"]),
        ("", []),
    ],
)
def test_known_words_are_whole_tokens_and_bytes_spell_the_rest(text: str, pieces: list[str]) -> None:
    tokenizer = make_tokenizer(words_of("a man 's t-shirt", "the dog ."))
    tokenizer.encode_special_tokens = True
    assert [tokenizer.decode([n], skip_special_tokens=False) for n in tokenizer.encode(text).ids] == pieces


def test_tokenizer_can_spell_what_it_never_saw() -> None:
    tokenizer = make_tokenizer(words_of("a red dog runs"), ["king penguin"])
    assert tokenizer.decode(tokenizer.encode("Zebra ünïcode 42 一只").ids).strip() == "zebra ünïcode 42 一只"
    assert len(tokenizer.encode("king penguin").ids) == 2


def test_rare_words_of_captions_are_spelled_and_the_rarest_left_out_first() -> None:
    rare = make_tokenizer(words_of("a red dog", times=2))
    assert len(rare.encode("red").ids) > 1
    assert len(rare.encode("the park is").ids) == 3  # a prompt of the program
    photos = (*words_of("a red dog"), Photo("c.jpg", "train", "", ("red", "red")))
    sizes = [make_tokenizer(photos, vocab_size=size).get_vocab_size() for size in (10_000, 283)]
    assert sizes == [make_tokenizer(photos).get_vocab_size(), 283]


def test_pictures_are_measured_at_the_size_of_the_network_but_never_enlarged_beyond_160(data_folder: Path) -> None:
    assert evaluation_side((224, 336), data_folder) == 160
    for path in (data_folder / "people").iterdir():
        Image.new("RGB", (300, 400)).save(path)
    assert evaluation_side((144, 144), data_folder) == 160
    assert evaluation_side((224, 336), data_folder) == 336
    assert evaluation_side((512, 512), data_folder) == 400
