from __future__ import annotations

import base64
import csv
import io
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from captioning.core.errors import AcceleratorError, DataError, FeaturesError, OptionsError, Stopped
from captioning.core.types import ImageFeatures, Picture
from captioning.image_map import (
    MapOptions,
    MapPoints,
    clusters,
    draw_map,
    embed,
    make_map,
    map_document,
    map_to_csv,
    map_to_npz,
    name_clusters,
    nearest,
    place,
    project,
    quality,
    refit,
    warm_up,
    write_pictures,
)
from captioning.image_map.projection import align
from captioning.image_map.thumbnails import thumbnail
from captioning.media.collection import Collection, NamedImage
from captioning.media.images import open_image
from tests.conftest import FakeCaptioner, at_once, fake_tensor

Features = NDArray[np.float32]


class ColourCaptioner(FakeCaptioner):
    """A captioner whose features are the mean colour. Black pictures raise an error; white ones give NaN."""

    batches: list[int]

    def encode(self, images: Sequence[Picture]) -> list[ImageFeatures]:
        self.batches = [*getattr(self, "batches", []), len(images)]
        made = super().encode(images)
        means = [np.asarray(image.image, np.float32).mean(axis=(0, 1)) for image in images]
        if not all(mean.any() for mean in means):
            raise RuntimeError("nothing to see")
        return [
            ImageFeatures(
                one.model_id,
                one.image_id,
                one.encoder_hidden_states,
                fake_tensor(np.where(mean.min() == 255, np.nan, mean).astype(np.float32)),
                one.layout,
                1,
            )
            for one, mean in zip(made, means, strict=True)
        ]


def save(path: Path, colour: tuple[int, int, int]) -> NamedImage:
    Image.new("RGB", (8, 8), colour).save(path)
    return NamedImage(path.name, path)


@pytest.fixture
def colours(tmp_path: Path) -> list[NamedImage]:
    generator = np.random.default_rng(0)
    values = generator.integers(20, 200, (24, 3)).tolist()
    return [save(tmp_path / f"{n}.png", tuple(value)) for n, value in enumerate(values)]


def blobs(count: int, groups: int = 3, seed: int = 0) -> tuple[Features, list[str]]:
    """Return features in well separated groups, and the group of each."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(groups, 16)) * 4
    kinds = np.arange(count) % groups
    return (centres[kinds] + generator.normal(size=(count, 16))).astype(np.float32), [f"kind {k}" for k in kinds]


@pytest.fixture(scope="module")
def digits() -> tuple[Features, list[str]]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.data.astype(np.float32), [str(target) for target in data.target]


# ---- features ----


def test_features_are_of_unit_length_and_in_order(colours: list[NamedImage]) -> None:
    embedded = embed(ColourCaptioner(), colours)
    assert embedded.embeds.shape == (24, 3)
    assert embedded.embeds.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embedded.embeds, axis=1), 1, rtol=1e-6)
    mean = np.asarray(Image.open(colours[5].path), np.float32).mean(axis=(0, 1))
    np.testing.assert_allclose(embedded.embeds[5], mean / np.linalg.norm(mean), rtol=1e-5)
    assert embedded.kept == tuple(range(24))


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_pictures_that_fail_are_listed_by_name_and_the_rest_go_on(
    colours: list[NamedImage], tmp_path: Path, batch: int
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    images = [
        colours[0],
        NamedImage("broken.png", broken),
        save(tmp_path / "black.png", (0, 0, 0)),
        save(tmp_path / "white.png", (255, 255, 255)),
        NamedImage("gone.png", tmp_path / "gone.png"),
        colours[1],
    ]
    embedded = embed(ColourCaptioner(), images, batch)
    assert embedded.kept == (0, 5)
    assert [one.name for one in embedded.failed] == ["broken.png", "black.png", "white.png", "gone.png"]
    told = [one.reason for one in embedded.failed]
    assert "not a picture" in told[0]
    assert "nothing to see" in told[1]
    assert "not finite" in told[2]
    assert "no file" in told[3]


def test_identical_pictures_are_encoded_once_and_share_an_id(colours: list[NamedImage], tmp_path: Path) -> None:
    captioner = ColourCaptioner()
    copies = [save(tmp_path / f"copy {n}.png", (9, 99, 199)) for n in range(30)]
    embedded = embed(captioner, [*copies, colours[0]], batch=4)
    assert captioner.encoded == 2
    assert [embedded.image_ids.count(image_id) for image_id in embedded.image_ids] == [30] * 30 + [1]
    assert len(np.unique(embedded.embeds[:30], axis=0)) == 1


def test_progress_names_each_picture_and_can_stop_the_work(colours: list[NamedImage]) -> None:
    heard: list[tuple[int, int, str]] = []
    embed(ColourCaptioner(), colours[:3], on_image=lambda *told: heard.append(told))
    assert heard == [(0, 3, "0.png"), (1, 3, "1.png"), (2, 3, "2.png"), (3, 3, "2.png")]
    captioner = ColourCaptioner()

    def stop(done: int, total: int, name: str) -> None:
        if done == 5:
            raise Stopped("enough")

    with pytest.raises(Stopped):
        embed(captioner, colours, on_image=stop)
    assert captioner.encoded == 5


@pytest.mark.parametrize("batch", [1, 4])
def test_a_gpu_that_was_taken_back_ends_the_work_and_is_no_pictures_fault(
    colours: list[NamedImage], batch: int
) -> None:
    class Lent(FakeCaptioner):
        calls = 0

        def encode(self, images: Sequence[Picture]) -> list[ImageFeatures]:
            self.calls += 1
            raise AcceleratorError("The GPU quota is used up; come back later.")

    captioner = Lent()
    with pytest.raises(AcceleratorError, match="quota"):
        embed(captioner, colours, batch)
    assert captioner.calls == 1


def test_nothing_gives_nothing() -> None:
    embedded = embed(ColourCaptioner(), [])
    assert (len(embedded.embeds), embedded.kept, embedded.failed) == (0, (), ())


# ---- neighbours ----


def test_neighbours_are_exact_by_cosine_and_nobody_is_their_own() -> None:
    embeds, _ = blobs(300)
    indices, similarities = nearest(embeds, 7)
    unit = embeds / np.linalg.norm(embeds, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    np.testing.assert_array_equal(indices, np.argsort(-cosines, axis=1, kind="stable")[:, :7])
    np.testing.assert_allclose(similarities, -np.sort(-cosines, axis=1)[:, :7], atol=1e-6)


def test_neighbours_of_new_pictures_may_be_any_mapped_one() -> None:
    embeds, _ = blobs(50)
    indices, similarities = nearest(embeds, 500, embeds[3:5])
    assert indices.shape == (2, 50)
    assert indices[:, 0].tolist() == [3, 4]
    np.testing.assert_allclose(similarities[:, 0], 1, atol=1e-6)
    assert nearest(embeds[:1], 5)[0].shape == (1, 0)
    assert nearest(embeds, 2, embeds[:0])[0].shape == (0, 2)


# ---- positions ----


@pytest.mark.parametrize(
    ("count", "method", "says"),
    [
        (0, "centre", "no pictures"),
        (1, "centre", "alone"),
        (2, "pca", "2 different pictures are too few"),
        (9, "pca", "9 different pictures are too few"),
        (10, "umap", ""),
    ],
)
def test_small_collections_are_laid_out_by_what_they_allow_and_say_so(count: int, method: str, says: str) -> None:
    embeds, _ = blobs(max(count, 1))
    made = project(embeds[:count])
    assert made.positions.shape == (count, 2)
    assert np.isfinite(made.positions).all()
    assert made.method == method
    assert says in made.note
    assert bool(made.note) == (method != "umap")
    assert made.drift is None


def test_one_picture_lies_in_the_centre_and_thirty_copies_of_it_as_well() -> None:
    embeds, _ = blobs(1)
    assert project(embeds).positions.tolist() == [[0, 0]]
    made = project(np.repeat(embeds, 30, axis=0))
    assert made.positions.tolist() == [[0, 0]] * 30
    assert "30 pictures that are all the same" in made.note


@pytest.mark.parametrize("distinct", [3, 12])
def test_identical_pictures_land_together(distinct: int) -> None:
    embeds, _ = blobs(distinct)
    made = project(np.concatenate((embeds, embeds, embeds)))
    parts = np.split(made.positions, 3)
    np.testing.assert_array_equal(parts[0], parts[1])
    np.testing.assert_array_equal(parts[0], parts[2])
    assert len(np.unique(made.positions, axis=0)) == distinct


def test_pca_can_be_asked_for_and_needs_no_seed() -> None:
    embeds, _ = blobs(40)
    made = project(embeds, MapOptions(method="pca"))
    assert (made.method, made.note) == ("pca", "")
    np.testing.assert_array_equal(made.positions, project(embeds, MapOptions(method="pca", seed=5)).positions)


@pytest.mark.parametrize("shape", [(3, 5), (9, 3), (20, 16), (200, 90)])
def test_principal_components_are_those_of_a_whole_decomposition(shape: tuple[int, int]) -> None:
    from captioning.image_map.projection import principal_components

    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found = principal_components(values)
    left, lengths, _ = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(found), np.abs(left[:, :2] * lengths[:2]), atol=1e-3)
    np.testing.assert_array_equal(found, principal_components(values))
    line = np.outer(np.arange(shape[0]), np.ones(shape[1])).astype(np.float32)
    assert (principal_components(line)[:, 1] == 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_no_numbers_are_refused_by_name(bad: float) -> None:
    embeds, _ = blobs(20)
    embeds[3, 1] = bad
    with pytest.raises(FeaturesError, match="picture 4 of 20 are not finite"):
        project(embeds)
    names = [f"{n}.jpg" for n in range(20)]
    with pytest.raises(FeaturesError, match=r"3\.jpg are not finite"):
        project(embeds, names=names)
    with pytest.raises(FeaturesError, match=r"3\.jpg are not finite"):
        refit(embeds, np.zeros((5, 2), np.float32), names=names)
    with pytest.raises(FeaturesError, match="not finite"):
        place(embeds[:3], np.zeros((3, 2), np.float32), embeds[3:])


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"n_neighbors": 1}, "n_neighbors"),
        ({"n_neighbors": 201}, "n_neighbors"),
        ({"min_dist": -0.1}, "min_dist"),
        ({"min_dist": float("nan")}, "min_dist"),
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
        ({"method": "tsne"}, "choose from umap, pca"),
    ],
)
def test_options_out_of_range_name_themselves(values: dict[str, object], says: str) -> None:
    with pytest.raises(OptionsError, match=says):
        MapOptions(**values)  # type: ignore[arg-type]


def test_one_seed_gives_one_map_and_another_seed_another() -> None:
    embeds, _ = blobs(60)
    first = project(embeds).positions
    np.testing.assert_array_equal(first, project(embeds).positions)
    assert not np.array_equal(first, project(embeds, MapOptions(seed=1)).positions)


def test_maps_drawn_at_once_are_the_same_as_one_by_one() -> None:
    embeds, _ = blobs(60)
    alone = project(embeds).positions
    for made in at_once(project, [embeds] * 4):
        np.testing.assert_array_equal(made.positions, alone)


def test_a_layout_tells_its_steps_can_be_stopped_and_leaves_the_next_one_free() -> None:
    embeds, _ = blobs(3000)
    heard: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        heard.append((done, total))
        if done:
            raise Stopped("enough")

    with pytest.raises(Stopped):
        project(embeds, on_step=stop)
    assert heard[0][1] == 500
    assert 0 < heard[-1][0] < 500
    warm_up()  # would wait for ever on a lock that was not let go


def test_new_pictures_lie_at_the_median_of_their_five_nearest_and_old_ones_do_not_move() -> None:
    embeds, _ = blobs(120)
    old, new = embeds[:100], embeds[100:]
    positions = project(old).positions
    before = positions.copy()
    placed = place(old, positions, new)
    np.testing.assert_array_equal(positions, before)
    indices, _ = nearest(old, 5, new)
    np.testing.assert_allclose(placed, np.median(positions[indices], axis=1))
    assert place(old, positions, new[:0]).shape == (0, 2)


def test_a_picture_that_is_on_the_map_already_lands_on_itself() -> None:
    embeds, _ = blobs(50)
    positions = project(embeds).positions
    np.testing.assert_array_equal(place(embeds, positions, embeds[7:9] * 3), positions[7:9])


def test_placing_needs_a_map_and_features_of_one_model() -> None:
    embeds, _ = blobs(5)
    with pytest.raises(FeaturesError, match="no map yet"):
        place(embeds[:0], np.empty((0, 2), np.float32), embeds)
    with pytest.raises(FeaturesError, match="another model"):
        place(embeds, np.zeros((5, 2), np.float32), embeds[:, :3])


def test_alignment_undoes_turning_mirroring_moving_and_scaling() -> None:
    target = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    turn = np.array([[0.6, 0.8], [0.8, -0.6]])  # a rotation and a reflection
    changed = (target @ turn * 3 + np.array([5, -7])).astype(np.float32)
    np.testing.assert_allclose(align(changed, target[:20]), target, atol=1e-4)


def test_a_refit_of_a_small_map_keeps_it_in_place() -> None:
    embeds, _ = blobs(8)
    old = project(embeds[:7]).positions
    again = refit(embeds, old)
    assert again.method == "pca"
    assert again.drift is not None
    assert again.drift < 0.2
    assert refit(embeds, old[:0]).drift is None


# ---- the promises on digits ----


@pytest.mark.slow
def test_digits_keep_their_neighbours_and_one_seed_gives_bit_identical_maps(digits: tuple[Features, list[str]]) -> None:
    from sklearn.manifold import trustworthiness

    embeds, labels = digits
    positions = project(embeds).positions
    np.testing.assert_array_equal(positions, project(embeds).positions)
    unit = embeds / np.linalg.norm(embeds, axis=1, keepdims=True)
    known = trustworthiness(unit, positions, n_neighbors=10, metric="cosine")
    assert known >= 0.985
    measured = quality(embeds, positions, labels)
    assert measured is not None
    assert measured.trustworthiness == pytest.approx(known, abs=1e-4)
    assert measured.k == 10
    assert measured.purity is not None
    assert measured.feature_purity is not None
    assert 0.95 < measured.purity <= 1
    assert 0.95 < measured.feature_purity <= 1
    assert measured.random.trustworthiness == pytest.approx(0.5, abs=0.02)
    assert measured.random.neighbour_recall == pytest.approx(10 / 1796, abs=0.005)
    assert measured.pca.trustworthiness < measured.trustworthiness - 0.1
    assert measured.silhouette is not None
    assert measured.silhouette > 0.5
    groups = clusters(positions)
    assert 8 <= groups.max() + 1 <= 20


@pytest.mark.slow
def test_digits_laid_out_again_after_ten_per_cent_more_stay_where_they_were(digits: tuple[Features, list[str]]) -> None:
    from sklearn.manifold import trustworthiness

    embeds = digits[0][np.random.default_rng(0).permutation(len(digits[0]))]
    old = len(embeds) * 10 // 11
    positions = project(embeds[:old]).positions
    before = positions.copy()
    place(embeds[:old], positions, embeds[old:])
    assert np.abs(positions - before).max() == 0
    again = refit(embeds, positions)
    assert again.drift is not None
    moved = np.linalg.norm(again.positions[:old] - positions, axis=1).mean()
    assert again.drift == pytest.approx(moved / np.linalg.norm(np.ptp(positions, axis=0)), rel=1e-4)
    assert 0 < again.drift <= 0.05
    unit = embeds / np.linalg.norm(embeds, axis=1, keepdims=True)
    assert trustworthiness(unit, again.positions, n_neighbors=10, metric="cosine") >= 0.985


# ---- quality ----


def test_a_perfect_map_is_perfect_and_a_point_that_lies_shows() -> None:
    angles = np.linspace(0.1, 1.4, 60)
    embeds = np.stack((np.cos(angles), np.sin(angles)), axis=1).astype(np.float32)
    measured = quality(embeds, embeds, k=4)
    assert measured is not None
    assert measured.trustworthiness == pytest.approx(1, abs=0.01)
    assert measured.neighbour_recall > 0.95
    moved = embeds.copy()
    moved[30] = (embeds[0] + embeds[1]) / 2
    measured = quality(embeds, moved, k=4)
    assert measured is not None
    assert measured.per_point_recall[30] == 0
    assert measured.per_point_recall[10] == 1


def test_quality_of_few_pictures_takes_fewer_neighbours_or_is_none() -> None:
    embeds, labels = blobs(9)
    assert quality(embeds[:2], np.zeros((2, 2), np.float32)) is None
    for count in (3, 4, 9):
        measured = quality(embeds[:count], project(embeds[:count]).positions, labels[:count])
        assert measured is not None
        assert measured.k == (count - 1) // 2
        assert 0 <= measured.trustworthiness <= 1


def test_labels_count_only_where_there_are_some() -> None:
    embeds, labels = blobs(90)
    positions = project(embeds).positions
    without = quality(embeds, positions)
    some = quality(embeds, positions, [label if n % 2 else "" for n, label in enumerate(labels)])
    one = quality(embeds, positions, ["same"] * 90)
    assert without is not None
    assert some is not None
    assert one is not None
    assert without.purity is without.silhouette is without.feature_purity is one.purity is None
    assert some.purity is not None
    assert some.purity > 0.9


def test_labels_that_the_sample_does_not_hold_twice_leave_no_silhouette(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captioning.image_map.measures._MOST_SILHOUETTES", 5)
    embeds, _ = blobs(60)
    silhouettes = []
    rare = [["rare" if n == place else "common" for n in range(60)] for place in range(0, 60, 5)]
    for labels in (*rare, [str(n % 58) for n in range(60)]):
        measured = quality(embeds, embeds[:, :2], labels)
        assert measured is not None
        assert measured.purity is not None
        silhouettes.append(measured.silhouette)
    assert silhouettes[-1] is None
    assert silhouettes.count(None) > 6  # five of sixty rarely hold the only one


def test_a_drawn_sample_has_nearly_the_silhouette_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    embeds, labels = blobs(900)
    positions = embeds[:, :2]
    whole = quality(embeds, positions, labels)
    monkeypatch.setattr("captioning.image_map.measures._MOST_SILHOUETTES", 400)
    drawn = quality(embeds, positions, labels)
    assert whole is not None
    assert drawn is not None
    assert drawn.silhouette == pytest.approx(whole.silhouette, abs=0.05)


def test_copies_stand_for_each_other_in_quality() -> None:
    embeds, _ = blobs(20)
    many = np.repeat(embeds, 15, axis=0)
    measured = quality(many, project(many).positions)
    assert measured is not None
    assert measured.neighbour_recall == 1
    assert measured.trustworthiness == 1


# ---- groups and their names ----


def test_groups_are_found_on_the_map_and_the_largest_comes_first() -> None:
    generator = np.random.default_rng(0)
    centres = np.array([[0, 0], [30, 0], [0, 30]])
    sizes = (20, 60, 40)
    positions = np.concatenate(
        [centre + generator.normal(size=(size, 2)) for centre, size in zip(centres, sizes, strict=True)]
    ).astype(np.float32)
    found = clusters(positions)
    assert np.bincount(found[found >= 0]).argmax() == 0
    assert found.max() == 2
    assert (found[20:80] == 0).mean() > 0.8
    assert clusters(positions[:9]).tolist() == [-1] * 9
    assert clusters(positions[:0]).shape == (0,)


def test_names_are_the_words_that_set_captions_apart() -> None:
    captions = ["a photo of a brown dog in the grass"] * 5 + ["a photo of a brown horse on the beach"] * 5 + ["a brown"]
    names = name_clusters(captions, [0] * 5 + [1] * 5 + [-1])
    assert set(names[0].split(", ")) == {"dog", "grass"}
    assert set(names[1].split(", ")) == {"horse", "beach"}


def test_names_differ_and_groups_without_words_are_numbered() -> None:
    captions = ["a dog runs"] * 4 + ["a dog runs"] * 4 + ["of the"] * 4
    names = name_clusters(captions, np.repeat([0, 1, 2], 4))
    assert len(set(names)) == 3
    assert names[2] == "group 3"
    assert name_clusters(["red car"] * 3, [0, 0, 0]) == ("car, red",)
    assert name_clusters([], []) == ()
    assert name_clusters(["a dog"], [-1]) == ()


# ---- documents ----


@pytest.fixture
def points(colours: list[NamedImage]) -> MapPoints:
    images = [NamedImage("=cmd()", colours[0].path, "${x}"), NamedImage("b/b.png", colours[1].path, folder="b")]
    return MapPoints(
        images=images,
        positions=np.array([[0.5, 1], [2, -1]], np.float32),
        embeds=np.eye(2, dtype=np.float32),
        clusters=np.array([0, -1]),
        cluster_names=("dog",),
        captions=("<b>a</b> dog",),
        recall=np.array([1, 0.5], np.float32),
        image_ids=("one", "two"),
    )


def test_a_map_as_a_document(points: MapPoints) -> None:
    document = map_document(points, failed=(), about={"model": "embedded"})
    assert document["model"] == "embedded"
    assert document["quality"] is None
    assert document["errors"] == []
    first, second = document["points"]
    assert first["image"] == "=cmd()"
    assert (first["x"], first["y"], first["cluster"], first["cluster_name"]) == (0.5, 1.0, 0, "dog")
    assert first["caption"] == "<b>a</b> dog"
    assert (second["cluster"], second["cluster_name"], second["caption"]) == (-1, "", "")
    assert points.select([1]).records() == [second]


def test_a_map_as_csv_runs_nothing_in_a_spreadsheet(points: MapPoints) -> None:
    rows = list(csv.DictReader(io.StringIO(map_to_csv(points))))
    assert [row["image"] for row in rows] == ["'=cmd()", "b/b.png"]
    assert rows[1]["y"] == "-1.0"
    assert rows[1]["true_neighbours_nearby"] == "0.5"


def test_a_map_as_arrays_opens_without_pickles(points: MapPoints) -> None:
    with np.load(io.BytesIO(map_to_npz(points)), allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["image_embeds"], np.eye(2))
        assert arrays["names"].tolist() == ["=cmd()", "b/b.png"]
        assert arrays["labels"].tolist() == ["${x}", ""]
        assert arrays["captions"].tolist() == ["<b>a</b> dog", ""]
        assert arrays["image_ids"].tolist() == ["one", "two"]
        assert arrays["positions"].shape == (2, 2)


def test_pictures_are_zipped_under_names_that_lead_nowhere_else(colours: list[NamedImage], tmp_path: Path) -> None:
    names = ["a.png", "a.png", "A.PNG", "../../evil.png", "/etc/x", "clip 0:01.5", "..", "gone.png"]
    images = [NamedImage(name, colours[n].path) for n, name in enumerate(names)]
    images[-1] = NamedImage("gone.png", tmp_path / "gone.png")
    failed = write_pictures(images, tmp_path / "out.zip")
    assert [one.name for one in failed] == ["gone.png"]
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.namelist() == [
            "a.png", "a-2.png", "A-3.PNG", "evil.png", "etc/x.png", "clip 0-01.5.png", "picture.png",
        ]  # fmt: skip
        assert archive.read("a-2.png") == colours[1].path.read_bytes()


@pytest.mark.parametrize(("mode", "value"), [("I;16", 32896), ("F", 0.5), ("I", 32896), ("LA", (128, 255))])
def test_thumbnails_show_what_the_model_sees(tmp_path: Path, mode: str, value: float | tuple[int, int]) -> None:
    path = tmp_path / "deep.tiff"
    Image.new(mode, (300, 200), value).save(path)
    shown = Image.open(io.BytesIO(base64.b64decode(thumbnail(path, 64).partition(",")[2])))
    assert shown.size == (64, 43)
    seen = open_image(path).image.getpixel((9, 9))
    assert seen == (128, 128, 128)
    np.testing.assert_allclose(np.asarray(shown), 128, atol=2)


def test_pictures_older_than_zips_are_packed(colours: list[NamedImage], tmp_path: Path) -> None:
    os.utime(colours[0].path, (0, 0))
    assert write_pictures(colours[:1], tmp_path / "out.zip") == ()
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.infolist()[0].date_time[:3] == (1980, 1, 1)


def test_a_map_as_a_picture_shows_its_pictures(colours: list[NamedImage], tmp_path: Path) -> None:
    images = [*colours, NamedImage("gone.png", tmp_path / "gone.png")]
    positions = np.random.default_rng(0).normal(size=(25, 2)).astype(np.float32)
    drawn = draw_map(images, positions, np.arange(25) % 9 - 1, size=(400, 300), thumbnail=20)
    assert drawn.size == (400, 300)
    shown = {tuple(pixel) for pixel in np.asarray(drawn).reshape(-1, 3).tolist()}
    with Image.open(colours[0].path) as first:
        assert first.getpixel((0, 0)) in shown
    assert len(shown) > 15
    assert draw_map([], np.empty((0, 2), np.float32)).getbbox() is not None


# ---- all at once ----


def test_a_collection_becomes_a_map_and_says_what_was_left_out(colours: list[NamedImage], tmp_path: Path) -> None:
    heard: list[tuple[str, int, int]] = []
    images = (*colours, NamedImage("gone.png", tmp_path / "gone.png"))
    made = make_map(ColourCaptioner(), Collection(images), report=lambda *told: heard.append(told))
    assert len(made.points.images) == len(made.points.captions) == len(made.points.positions) == 24
    assert [one.name for one in made.failed] == ["gone.png"]
    assert made.quality is not None
    assert {what for what, _, _ in heard} >= {"encoding", "captioning"}
    with pytest.raises(DataError, match=r"None of these can be put on a map: gone\.png"):
        make_map(ColourCaptioner(), Collection(images[-1:]))
