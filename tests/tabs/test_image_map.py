"""What the Map tab does behind the page."""

from __future__ import annotations

import gc
import io
import json
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from gradio.utils import get_upload_folder
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from captioning.core.cancellation import Job
from captioning.core.errors import DataError, OptionsError, Stopped
from captioning.image_map import MapOptions, thumbnail
from captioning.media.scratch import Scratch
from captioning.media.uploads import SentFile, clean_name
from captioning.tabs.image_map.answers import Thumbnails, find_neighbours, make_answers
from captioning.tabs.image_map.files import make_file
from captioning.tabs.image_map.intake import Source, folder_source, gather, may_read_folders, read_sent_files
from captioning.tabs.image_map.samples import SAMPLE_SETS, find_samples
from captioning.tabs.image_map.view import MapShelf, MapView, copy_groups, map_news, map_value, progress_value
from captioning.tabs.image_map.work import Drawn, add, draw, find_out, refit_map
from tests.clips import make_clip
from tests.conftest import FAKE_SPEC
from tests.map_pictures import ColourLoader, make_folder, make_picture
from tests.page_server import serve

PCA = MapOptions(method="pca")


def make_job() -> Job[Any]:
    return Job(threading.Event())


def files_of(folder: Path) -> tuple[SentFile, ...]:
    return tuple(SentFile(p, p.relative_to(folder).as_posix()) for p in sorted(folder.rglob("*")) if p.is_file())


@pytest.fixture
def loader() -> ColourLoader:
    return ColourLoader()


@pytest.fixture
def draw_files(loader: ColourLoader, tmp_path: Path) -> Callable[..., Drawn]:
    def run(files: tuple[SentFile, ...], options: MapOptions = PCA) -> Drawn:
        return draw(loader, Source("files", files=files), "auto", options, str(tmp_path / "cache"), make_job())

    return run


@pytest.fixture
def drawn(draw_files: Callable[..., Drawn], tmp_path: Path) -> Drawn:
    return draw_files(files_of(make_folder(tmp_path / "pictures")))


def add_files(loader: ColourLoader, files: tuple[SentFile, ...], before: MapView, tmp_path: Path) -> MapView:
    return add(loader, Source("files", files=files), before, str(tmp_path / "cache"), make_job()).view


# ---- drawing ----


def test_like_pictures_lie_together_and_keep_their_names_and_folders(drawn: Drawn) -> None:
    view = drawn.view
    assert [image.name for image in view.images[:2]] == ["blue/blue-0.png", "blue/blue-1.png"]
    assert {image.folder for image in view.images} == {"red", "green", "blue"}
    middles = {f: view.positions[[i.folder == f for i in view.images]].mean(axis=0) for f in ("red", "green", "blue")}
    for image, position in zip(view.images, view.positions, strict=True):
        nearest = min(middles, key=lambda folder: float(np.linalg.norm(middles[folder] - position)))
        assert nearest == image.folder
    assert drawn.told == "18 pictures on the map, by Fake captioner"


def test_few_pictures_are_drawn_with_a_note(draw_files: Callable[..., Drawn], tmp_path: Path) -> None:
    path = make_picture(tmp_path / "one.png", "red")
    alone = draw_files((SentFile(path, "one.png"),), MapOptions()).view
    assert "centre" in map_value(alone)["map"]["note"]
    find_neighbours(alone, 0)
    three = tuple(SentFile(make_picture(tmp_path / f"{c}.png", c), f"{c}.png") for c in ("red", "green", "blue"))
    assert "too few for UMAP" in map_value(draw_files(three, MapOptions()).view)["map"]["note"]


def test_what_cannot_be_used_is_named_and_the_rest_goes_on(draw_files: Callable[..., Drawn], tmp_path: Path) -> None:
    good = make_picture(tmp_path / "good.png", "red")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture at all")
    (tmp_path / "notes.txt").write_text("hello", encoding="utf-8")
    names = ("good.png", "broken.png", "notes.txt")
    view = draw_files(tuple(SentFile(tmp_path / name, name) for name in names)).view
    assert [image.path for image in view.images] == [good]
    assert {one.name for one in view.failed} == {"broken.png", "notes.txt"}
    (listed,) = progress_value("done", view=view)["lists"]
    assert listed["title"] == "2 files were left out"
    assert not any(str(tmp_path) in reason for _, reason in listed["rows"])


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("broken.png", b"not a picture", "broken.png"),
        ("empty.zip", b"", "empty.zip: It is damaged or no zip"),
        ("list.csv", b"path,label\nmissing.png,cat\n", "list.csv"),
        ("notes.txt", b"hello", "notes.txt"),
        ("clip.mp4", b"no clip", "clip.mp4"),
    ],
)
def test_where_nothing_can_be_used_the_reason_is_one_sentence(
    draw_files: Callable[..., Drawn], tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        draw_files((SentFile(tmp_path / name, name),))
    assert str(error.value).startswith("None of these can be put on a map: ")
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_an_archive_a_table_and_a_clip_bring_pictures(draw_files: Callable[..., Drawn], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pack.zip", "w") as archive:
        for colour in ("red", "blue"):
            archive.write(make_picture(tmp_path / f"{colour}.png", colour), f"inside/{colour}.png")
    view = draw_files((SentFile(tmp_path / "pack.zip", "pack.zip"),)).view
    assert [image.name for image in view.images] == ["inside/red.png", "inside/blue.png"]

    (tmp_path / "list.csv").write_text("path,label\nred.png,warm\nblue.png,cold\ngone.png,cold\n", encoding="utf-8")
    sent = tuple(SentFile(tmp_path / name, name) for name in ("list.csv", "red.png", "blue.png"))
    view = draw_files(sent).view
    assert [(image.name, image.label) for image in view.images] == [("red.png", "warm"), ("blue.png", "cold")]
    assert [one.name for one in view.failed] == ["gone.png"]

    clip = make_clip(tmp_path / "clip.mp4")
    view = draw_files((SentFile(clip, "clip.mp4"),)).view
    assert len(view.images) > 10
    assert view.images[0].name.startswith("clip.mp4 0:0")
    assert {image.folder for image in view.images} == {"clip.mp4"}


def test_a_table_from_afar_reaches_no_file_of_this_machine(draw_files: Callable[..., Drawn], tmp_path: Path) -> None:
    secret = make_picture(tmp_path / "elsewhere" / "secret.png", "red")
    table = tmp_path / "list.csv"
    table.write_text(f"path\n{secret}\n../../elsewhere/secret.png\n", encoding="utf-8")
    with pytest.raises(DataError, match="None of these"):
        draw_files((SentFile(table, "list.csv"),))


def test_copies_are_found_and_land_together(draw_files: Callable[..., Drawn], tmp_path: Path) -> None:
    files = files_of(make_folder(tmp_path / "pictures", each=2))
    path = files[0].path
    view = draw_files((*files, SentFile(path, "again.png"), SentFile(path, "and-again.png"))).view
    assert copy_groups(view) == [["blue/blue-0.png", "again.png", "and-again.png"]]
    assert (view.positions[-1] == view.positions[0]).all()
    assert map_value(view)["map"]["copies"][-2:] == [0, 0]
    titles = [one["title"] for one in progress_value("done", view=view)["lists"]]
    assert titles == ["1 picture is there more than once"]


def test_drawing_stops_between_pictures(loader: ColourLoader, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    source = Source("files", files=files_of(make_folder(tmp_path / "pictures", each=1)))
    with pytest.raises(Stopped):
        draw(loader, source, "auto", PCA, str(tmp_path / "cache"), Job(stop))
    assert loader.fakes["embedded"].encoded == 0


# ---- growing ----


def test_new_pictures_move_nothing_and_lie_among_their_like(loader: ColourLoader, drawn: Drawn, tmp_path: Path) -> None:
    before = drawn.view
    new = (SentFile(make_picture(tmp_path / "new.png", "green", 999), "new.png"),)
    view = add_files(loader, new, before, tmp_path)
    assert np.array_equal(view.positions[:-1], before.positions)
    assert view.map_id != before.map_id
    green = before.positions[[image.folder == "green" for image in before.images]]
    assert (green.min(axis=0) <= view.positions[-1]).all()
    assert (view.positions[-1] <= green.max(axis=0)).all()
    value = map_value(view, "added", before)["map"]
    assert (value["change"], value["after"], len(value["names"])) == ("added", before.map_id, 19)


def test_a_map_to_which_more_came_than_there_was_says_how_to_lay_it_out_anew(
    loader: ColourLoader, drawn: Drawn, tmp_path: Path
) -> None:
    few = files_of(make_folder(tmp_path / "few", each=1))
    assert len(few) <= len(drawn.view.images)
    assert add_files(loader, few, drawn.view, tmp_path).projection.note == drawn.view.projection.note
    many = files_of(make_folder(tmp_path / "many", each=len(drawn.view.images)))
    assert "Refit" in add_files(loader, many, drawn.view, tmp_path).projection.note


def test_more_than_a_map_holds_is_refused(
    loader: ColourLoader, drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SimpleNamespace(map_images=19)
    monkeypatch.setattr("captioning.image_map.session.get_settings", lambda: settings)
    files = files_of(make_folder(tmp_path / "more", each=1))
    with pytest.raises(DataError, match="room for 1 picture more"):
        add_files(loader, files, drawn.view, tmp_path)


def test_a_refit_takes_new_pictures_along_and_keeps_captions(
    loader: ColourLoader, drawn: Drawn, tmp_path: Path
) -> None:
    view = find_out(loader, drawn, make_job())
    fresh = refit_map(loader, view, "auto", PCA, make_job())
    assert fresh.view.captions == view.captions
    assert fresh.view.quality is None
    assert "moved by 0% of the map" in fresh.told
    np.testing.assert_allclose(fresh.view.positions, view.positions, atol=1e-4)
    encoded = loader.fakes["embedded"].encoded
    refit_map(loader, view, "auto", PCA, make_job())
    assert loader.fakes["embedded"].encoded == encoded, "features come from the shared cache"


# ---- what is found out afterwards ----


def test_captions_names_and_quality_come_after_the_points(loader: ColourLoader, drawn: Drawn) -> None:
    assert map_news(drawn.view)["working"]
    view = find_out(loader, drawn, make_job())
    news = map_news(view)
    assert len(news["captions"]) == len(view.images)
    assert all(news["captions"])
    assert not news["working"]
    assert len(news["recall"]) == len(view.images)
    assert set(news["quality"]["measures"]) == {"trustworthiness", "neighbour_recall", "purity", "silhouette"}
    shown, _, random = news["quality"]["measures"]["trustworthiness"]
    assert shown > random
    assert "by chance" in news["quality"]["verdict"]
    later = map_news(view, known=15, knows_recall=True)
    assert len(later["captions"]) == 3
    assert later["recall"] is None


def test_captioning_tells_captions_as_they_come_and_stops(
    loader: ColourLoader, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("captioning.image_map.session.MAP_UPDATE_SECONDS", 0.0)
    stop = threading.Event()
    job: Job[Any] = Job(stop)
    steps = []

    def show(step: Any) -> None:
        steps.append(step)
        if len(steps) == 3:
            stop.set()
        job.check()

    job.show = show  # type: ignore[method-assign, assignment]
    with pytest.raises(Stopped):
        find_out(loader, drawn, job)
    assert steps[0].doing == "Measuring how far the map can be believed"
    assert "Captioning" in steps[-1].doing
    assert 0 < len(steps[-1].view.captions) < len(drawn.view.images)


def test_a_picture_that_is_gone_gets_no_caption(loader: ColourLoader, drawn: Drawn) -> None:
    drawn.view.images[3].path.unlink()
    captions = find_out(loader, drawn, make_job()).captions
    assert [place for place, caption in enumerate(captions) if not caption] == [3]


# ---- what the script asks ----


@pytest.fixture
def answers(loader: ColourLoader, drawn: Drawn) -> dict[str, Callable[[Any], Any]]:
    shelf = MapShelf()
    shelf.put(drawn.view)
    return {answer.__name__: answer for answer in make_answers(shelf, Thumbnails(), loader)}


def test_thumbnails_neighbours_and_a_large_picture_are_answered(
    answers: dict[str, Callable[[Any], Any]], drawn: Drawn
) -> None:
    about = {"map": drawn.view.map_id}
    thumbnails = answers["map_thumbnails"](about | {"indices": [0, 5]})
    assert set(thumbnails) == {"0", "5"}
    assert all(text.startswith("data:image/jpeg;base64,") for text in thumbnails.values())
    assert answers["map_picture"](about | {"index": 3}).startswith("data:image/jpeg;base64,")
    neighbours = answers["map_neighbours"](about | {"index": 0})
    assert len(neighbours) == 8
    assert 0 not in [place for place, _ in neighbours]
    assert {drawn.view.images[place].folder for place, _ in neighbours[:5]} == {"blue"}
    assert neighbours == sorted(neighbours, key=lambda pair: -pair[1])


@pytest.mark.parametrize(
    "asked", [None, [], "x", {}, {"map": "guess"}, {"map": None, "index": 0}, {"map": "guess", "indices": [0]}]
)
def test_a_map_that_nobody_holds_answers_nothing(answers: dict[str, Callable[[Any], Any]], asked: Any) -> None:
    for name, answer in answers.items():
        found = answer(asked)
        assert not found or "error" in found, name


@pytest.mark.parametrize("index", [-1, 18, 1.5, True, "0", None, [0]])
def test_a_point_that_is_not_there_answers_nothing(
    answers: dict[str, Callable[[Any], Any]], drawn: Drawn, index: Any
) -> None:
    about = {"map": drawn.view.map_id}
    assert answers["map_picture"](about | {"index": index}) == ""
    assert answers["map_neighbours"](about | {"index": index}) == []
    assert answers["map_thumbnails"](about | {"indices": [index]}) == {}


def test_a_picture_finds_those_that_look_like_it(
    answers: dict[str, Callable[[Any], Any]], drawn: Drawn, tmp_path: Path
) -> None:
    about = {"map": drawn.view.map_id, "name": "query.png"}
    path = make_picture(Path(get_upload_folder()) / "test-map" / "query.png", "red", 5)
    try:
        found = answers["map_look_alike"](about | {"path": str(path)})["found"]
    finally:
        path.unlink()
    assert {drawn.view.images[place].folder for place, _ in found[:6]} == {"red"}
    outside = make_picture(tmp_path / "outside.png", "red")
    assert "no picture to compare" in answers["map_look_alike"](about | {"path": str(outside)})["error"]


def test_a_map_goes_with_its_session_and_its_files_with_it(drawn: Drawn, tmp_path: Path) -> None:
    shelf = MapShelf()
    scratch = Scratch(str(tmp_path / "cache"))
    view = MapView(**{**vars(drawn.view), "scratches": (scratch,), "map_id": "other"})
    folder = scratch.path
    shelf.put(view)
    assert shelf.get("other") is view
    del view, scratch
    gc.collect()
    assert shelf.get("other") is None
    assert not folder.exists()


def test_every_sample_set_holds_pictures_that_can_be_read(tmp_path: Path) -> None:
    counts = {}
    for known in SAMPLE_SETS:
        scratch = Scratch(str(tmp_path))  # its pictures go with it
        found = gather(Source("samples", samples=known.name), scratch, lambda *_: None)
        assert found.failed == ()
        assert all(thumbnail(image.path, 16) for image in found.images)
        counts[known.name] = len(found.images)
    assert counts["digits"] == 300
    with pytest.raises(DataError, match="choose from photographs, digits, clip"):
        find_samples("../etc")


def test_thumbnails_are_upright_small_and_on_white(tmp_path: Path) -> None:
    photo = Image.new("RGB", (400, 200), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "turned.jpg", exif=exif)
    assert _decode(thumbnail(tmp_path / "turned.jpg", 64)).size == (32, 64)
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert _decode(thumbnail(tmp_path / "clear.png", 64)).getpixel((5, 5)) == (255, 255, 255)
    assert Thumbnails().get(tmp_path / "gone.png") == ""


def _decode(address: str) -> Image.Image:
    import base64

    return Image.open(io.BytesIO(base64.b64decode(address.split(",", 1)[1])))


# ---- who may hand in what ----


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("../../etc/passwd", "etc/passwd"),
        ("/root/a.png", "root/a.png"),
        ("a\\b.png", "a/b.png"),
        ("./a/./b.png", "a/b.png"),
        ("..", ""),
        ("a\0b.png", "ab.png"),
    ],
)
def test_names_lead_nowhere_else(name: str, cleaned: str) -> None:
    assert clean_name(name) == cleaned


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret.png", None, 7])
def test_only_uploaded_files_are_read(path: object) -> None:
    event = gr.EventData(None, {"files": [{"path": path, "name": "a.png"}]})
    with pytest.raises(DataError, match="did not arrive"):
        read_sent_files(event)


def a_request(host: str, headers: dict[str, str] | None = None) -> Any:
    return SimpleNamespace(client=SimpleNamespace(host=host), headers=headers or {})


@pytest.mark.parametrize(
    ("setting", "host", "headers", "allowed"),
    [
        ("auto", "127.0.0.1", {}, True),
        ("auto", "::1", {}, True),
        ("auto", "192.0.2.7", {}, False),
        ("auto", "127.0.0.1", {"X-Forwarded-For": "192.0.2.7"}, False),
        ("off", "127.0.0.1", {}, False),
        ("on", "192.0.2.7", {}, True),
    ],
)
def test_folders_are_read_for_those_at_the_machine_or_by_a_setting(
    monkeypatch: pytest.MonkeyPatch, setting: str, host: str, headers: dict[str, str], allowed: bool
) -> None:
    monkeypatch.setattr("captioning.tabs.image_map.intake.get_settings", lambda: SimpleNamespace(local_folders=setting))
    request = a_request(host, headers)
    assert may_read_folders(request) is allowed
    if allowed:
        assert folder_source(" /data/photos ", request).folder == "/data/photos"
        assert folder_source('"/data/photos"', request).folder == "/data/photos"
    else:
        with pytest.raises(DataError, match="same machine"):
            folder_source("/data/photos", request)


# ---- files to take along ----


def test_the_map_is_saved_as_text_arrays_pictures_and_one_file(loader: ColourLoader, drawn: Drawn) -> None:
    view = find_out(loader, drawn, make_job())
    name, content = make_file(view, "csv", None, Thumbnails(), make_job())
    assert name == "map.csv"
    assert len(content.decode().splitlines()) == 19
    name, content = make_file(view, "json", [2, 4], Thumbnails(), make_job())
    assert name == "map-2-selected.json"
    document = json.loads(content)
    assert [point["image"] for point in document["points"]] == [view.images[2].name, view.images[4].name]
    assert {"x", "y", "cluster", "caption"} <= set(document["points"][0])
    assert document["quality"] is not None
    _, content = make_file(view, "npz", [1], Thumbnails(), make_job())
    with np.load(io.BytesIO(content)) as arrays:
        np.testing.assert_array_equal(arrays["positions"], view.positions[1:2])
    _, content = make_file(view, "zip", [0, 7], Thumbnails(), make_job())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert len(archive.namelist()) == 2
    name, content = make_file(view, "html", None, Thumbnails(), make_job())
    page = content.decode()
    assert name == "map.html"
    assert "default-src 'none'" in page
    assert page.count("</script>") == 4
    assert document["model"] == "embedded"


@pytest.mark.parametrize(("kind", "indices"), [("exe", None), (None, None), ("csv", [99]), ("csv", "0"), ("csv", [])])
def test_what_cannot_be_saved_is_one_sentence(drawn: Drawn, kind: object, indices: object) -> None:
    with pytest.raises(OptionsError):
        make_file(drawn.view, kind, indices, Thumbnails(), make_job())


# ---- without the page ----


def test_clients_get_a_map_and_one_sentence_for_bad_input(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pictures", each=2)
    images = [handle_file(path) for path in sorted(folder.rglob("*.png"))]
    with serve(ColourLoader()) as address:
        client = Client(address, verbose=False)
        document = client.predict(images=images, method="pca", api_name="/image_map")
        assert {"image", "x", "y", "cluster", "caption"} <= set(document["points"][0])
        assert [point["image"] for point in document["points"]][:2] == ["blue-0.png", "blue-1.png"]
        assert all(point["caption"] for point in document["points"])
        assert (document["model"], document["method"], document["errors"]) == ("embedded", "pca", [])
        bare = client.predict(images=images[:3], captions=False, api_name="/image_map")
        assert [point["caption"] for point in bare["points"]] == ["", "", ""]
        assert bare["options"]["method"] == "umap"
        assert bare["method"] == "pca"
        assert "UMAP" in bare["note"]
        assert bare["revision"] == FAKE_SPEC.revision
        assert bare["left_out"] == {}
        refused: list[dict[str, Any]] = [
            {"images": []},
            {"images": images, "method": "tsne"},
            {"images": [{"path": "/etc/passwd"}]},
        ]
        for bad in refused:
            with pytest.raises(AppError) as error:
                client.predict(**bad, api_name="/image_map")
            assert "\n" not in str(error.value)
            assert "passwd" not in str(error.value)


def test_the_path_of_a_table_on_this_machine_is_taken_as_that_of_a_folder(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pictures", each=1)
    (folder / "table.csv").write_text(
        "path;label\n" + "\n".join(f"{p.relative_to(folder)};x" for p in folder.rglob("*.png"))
    )
    source = Source("folder", folder=str(folder / "table.csv"))
    found = gather(source, Scratch(str(tmp_path / "scratch")), lambda *_: None)
    assert {image.label for image in found.images} == {"x"}
    assert len(found.images) == 3


def test_files_that_are_no_pictures_are_listed_by_kind_on_the_page(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pictures", each=1)
    (folder / "a.heic").write_bytes(b"x")
    source = Source("folder", folder=str(folder))
    view = draw(ColourLoader(), source, "auto", MapOptions(), str(tmp_path / "cache"), make_job()).view
    (told,) = progress_value("done", view=view)["lists"]
    assert told == {"title": "1 file is no picture that can be read here", "rows": [["HEIC", "1"]], "open": True}
