from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from captioning.__main__ import main
from captioning.core.types import Capabilities
from captioning.serving import loading
from tests.clips import make_clip
from tests.conftest import FAKE_SPEC, FakeLoader


@pytest.fixture(autouse=True)
def fake_models(monkeypatch: pytest.MonkeyPatch, fake_loader: FakeLoader) -> FakeLoader:
    monkeypatch.setattr(loading, "load_captioner", lambda model, *_, **__: fake_loader(model))
    return fake_loader


def test_two_prompts_give_two_captions_as_one_json_document(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["caption", str(photo), "--prompt", "", "--prompt", "a photo of", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["model"] == "embedded"
    assert document["revision"] == "7"
    assert document["errors"] == []
    assert [c["prompt"] for c in document["captions"]] == ["", "a photo of"]
    for caption in document["captions"]:
        assert caption["image"] == str(photo)
        assert len(caption["tokens"]) == len(caption["log_probs"]) == len(caption["token_ids"]) > 0
        assert caption["seconds"] >= 0


def test_no_prompt_means_a_photography_of(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["caption", str(photo), "--json"])
    assert json.loads(capsys.readouterr().out)["captions"][0]["prompt"] == "a photography of"


def test_one_broken_picture_among_good_ones_is_reported_and_the_rest_go_on(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photo.read_bytes()[:100])
    assert main(["caption", str(photo), str(broken), str(photo), "--json"]) == 1
    output = capsys.readouterr()
    document = json.loads(output.out)
    assert len(document["captions"]) == 2
    assert [e["image"] for e in document["errors"]] == [str(broken)]
    assert "broken.jpg" in output.err


def test_plain_output_names_each_picture_and_its_captions(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["caption", str(photo), "--prompt", "the park is"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(photo)
    assert lines[1].startswith("  the park is ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "no/such"], "no model 'no/such'"),
        (["--prompt", "x" * 5000], "5,000 characters"),
        ([argument for n in range(200) for argument in ("--prompt", str(n))], "200 prompts"),
        (["--num-beams", "3", "--temperature", "1"], "Beams search"),
        (["--top-p", "7"], "top_p must be between"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_status_1(
    photo: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["caption", str(photo), *arguments]) == 1
    output = capsys.readouterr()
    assert says in output.err
    assert len(output.err.strip().splitlines()) == 1
    assert not output.out


def test_a_clip_is_captioned_by_the_average_of_its_frames(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip, srt = make_clip(tmp_path / "clip.mp4"), tmp_path / "clip.srt"
    arguments = ["--frames", "3", "--prompt", "a video of", "--prompt", "", "--srt", str(srt), "--json"]
    assert main(["video", str(clip), *arguments]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [c["prompt"] for c in document["captions"]] == ["a video of", ""]
    assert {c["image"] for c in document["captions"]} == {str(clip)}
    assert document["frames"] == [
        {"index": 5, "seconds": 0.5},
        {"index": 15, "seconds": 1.5},
        {"index": 25, "seconds": 2.5},
    ]
    assert (document["model"], document["revision"], document["errors"]) == ("embedded", "7", [])
    assert srt.read_text(encoding="utf-8").startswith("1\n00:00:00,000 --> 00:00:01,000\na video of ")


def test_a_broken_clip_is_reported_and_the_next_one_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken, clip = tmp_path / "broken.mp4", make_clip(tmp_path / "clip.mp4")
    broken.write_text("no clip", encoding="utf-8")
    assert main(["video", str(broken), str(clip), "--frames", "2"]) == 1
    output = capsys.readouterr()
    assert "broken.mp4 is not a video" in output.err
    assert output.out.splitlines()[0] == f"{clip} (2 frames: 0:00.7, 0:02.2)"
    assert main(["video", str(clip), "--frames", "0"]) == 1
    assert main(["video", str(clip), str(clip), "--srt", "a.srt"]) == 1


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("map", ["--no-captions", "--out", "in the way"]),
        ("map", ["--no-captions", "--out", "in the way/below"]),
        ("attention", ["--out", "in the way"]),
        ("video", ["--srt", "in the way/a.srt"]),
        ("bench", ["--out", "in the way/a.md"]),
    ],
)
def test_a_place_that_cannot_be_written_is_one_sentence_before_any_work(
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fake_models: FakeLoader,
    command: str,
    arguments: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in the way").touch()
    assert main([command, *([] if command == "bench" else [str(photo)]), *arguments]) == 1
    output = capsys.readouterr()
    assert re.fullmatch(
        r"captioning: in the way\S* cannot be used \(.+\); check the path, or choose another\.\n", output.err
    )
    assert not output.out
    assert not fake_models.fakes


def test_what_the_system_refuses_is_one_sentence_that_names_the_file(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "map.csv").mkdir()
    assert main(["map", str(photo), "--no-captions", "--out", str(tmp_path)]) == 1
    assert f"{tmp_path / 'map.csv'} cannot be used" in capsys.readouterr().err

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("captioning.media.images.open_image", refuse)
    assert main(["caption", str(photo)]) == 1
    assert capsys.readouterr().err.endswith("captioning: The system refuses to go on: No space left on device.\n")


def test_a_wrong_command_line_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["caption"], ["caption", "a.jpg", "--nonsense"], ["evaluate"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="pipes end otherwise there")
def test_a_reader_that_has_seen_enough_ends_the_command_quietly() -> None:
    command = [sys.executable, "-m", "captioning", "models", "--json"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_models_are_listed_with_their_capabilities(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    rows = {row["model_id"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"embedded", "Salesforce/blip-image-captioning-base"} <= set(rows)
    assert rows["embedded"]["capabilities"]["attention_kind"] == "cross"
    assert main(["models"]) == 0
    assert "ships with the program" in capsys.readouterr().out


def test_an_unknown_bench_case_names_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--case", "nonsense"]) == 1
    assert "five_prompts" in capsys.readouterr().err


def test_a_folder_becomes_a_map_in_every_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (9, 9), (number * 80, 0, 0)).save(folder / f"{number}.png")
    arguments = ["map", str(folder), "--seed", "3", "--min-dist", "0.2", "--out", str(out), "--json"]
    assert main(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert [point["image"] for point in document["points"]] == ["0.png", "1.png", "2.png"]
    assert all({"x", "y", "cluster", "caption"} <= set(point) for point in document["points"])
    assert all(point["caption"] for point in document["points"])
    assert (document["model"], document["options"]["seed"], document["errors"]) == ("embedded", 3, [])
    assert {path.name for path in out.iterdir()} == {"map.html", "map.csv", "map.json", "map.png", "features.npz"}
    assert json.loads((out / "map.json").read_text(encoding="utf-8")) == document
    assert (out / "map.csv").read_text(encoding="utf-8").startswith("image,")


def test_a_map_of_broken_files_goes_on_and_one_of_nothing_says_so(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert main(["map", str(tmp_path), "--no-captions", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [point["caption"] for point in document["points"]] == [""]
    assert [error["image"] for error in document["errors"]] == ["broken.png"]
    assert document["errors"][0]["error"].startswith("It is not a picture")
    assert main(["map", str(tmp_path), "--no-captions"]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("1 picture in 0 groups, ")
    assert printed.err.count("broken.png") == 1
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, says in (([str(empty)], "holds no pictures"), ([str(photo), "--n-neighbors", "1"], "n_neighbors")):
        assert main(["map", *arguments]) == 1
        assert says in capsys.readouterr().err


def test_attention_writes_its_files_and_one_json_document(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "seen"
    command = ["attention", str(photo), "--prompt", "the dog", "--layer", "1", "--head", "max", "--out", str(out)]
    assert main([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [document[name] for name in ("model", "method", "layer", "head")] == ["embedded", "attention", 1, "max"]
    assert len(document["maps"]) == len(document["caption"]["tokens"]) == len(document["entropy"])
    assert sorted(document["files"]) == sorted(str(file) for file in out.iterdir())
    assert (out / "01-dog.png").is_file()
    assert main([*command, "--word", "dog"]) == 0
    output = capsys.readouterr().out
    assert "dog" in output
    assert "on the picture" in output
    assert "[attention, layer 1 (from 0), head max;" in output


def test_attention_without_a_folder_ends_with_its_last_token(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attention", str(photo)]) == 0
    assert "" not in capsys.readouterr().out.splitlines()


def test_attention_of_one_word_costs_the_maps_of_that_word_alone(
    photo: Path, tmp_path: Path, fake_models: FakeLoader, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_models("embedded")
    fake = fake_models.fakes["embedded"]
    fake.spec = replace(FAKE_SPEC, capabilities=Capabilities(explanation_methods=("gradient_attention",)))
    command = ["attention", str(photo), "--text", "two cats sleeping", "--word", "cats"]
    assert main(command) == 0
    assert fake.explained == 1
    assert main([*command, "--out", str(tmp_path / "seen")]) == 0
    assert fake.explained == 3, "the scale and the page need all of them"
    assert "[gradient_attention; best on training photographs]" in capsys.readouterr().out


def test_attention_of_a_typed_caption_is_of_that_caption(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attention", str(photo), "--text", "two cats sleeping", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["caption"]["text"] == "two cats sleeping"
    assert document["files"] == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--layer", "9"], "choose from 0 to 1"),
        (["--method", "magic"], "choose from attention"),
        (["--word", "zebra"], "no word 'zebra'"),
        (["--position", "99"], "choose from 0 to"),
        (["--opacity", "3"], "between 0 and 1"),
        (["--colour-map", "plaid"], "choose from magma"),
    ],
)
def test_attention_refuses_what_is_not_there(
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["attention", str(photo), *arguments]) == 1
    assert says in capsys.readouterr().err


def test_output_that_a_pipe_cannot_show_is_replaced_or_escaped() -> None:
    code = (
        "import sys; from captioning.__main__ import _show_what_can_be_shown; _show_what_can_be_shown();"
        "from captioning.commands.shared import print_json;"
        "print_json({'image': chr(0x5199) + chr(0xdce9)}); print(chr(0x5199) + '.jpg')"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=root, env=environment, check=True)
    first, second = done.stdout.decode("cp1252").splitlines()
    assert json.loads(first) == {"image": "\u5199\udce9"}
    assert second == "?.jpg"


def test_a_map_says_how_many_files_were_left_out(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "phone"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(photo.read_bytes())
    (folder / "b.HEIC").write_bytes(b"x")
    assert main(["map", str(folder), "--no-captions", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["left_out"] == {"HEIC": 1}
    assert "Left out: 1 file is no picture that can be read here (1 HEIC)." in printed.err
