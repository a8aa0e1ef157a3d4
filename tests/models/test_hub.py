"""Finding, downloading and checking models, against a hub that lives on this machine."""

from __future__ import annotations

import errno
import json
import pickle
import shutil
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from captioning.core.errors import HubError, ModelError, ModelFilesError, Stopped, UnknownModelError
from captioning.core.types import DecodingOptions, ModelSpec
from captioning.models import get_spec
from captioning.models.captioner import NetworkCaptioner
from captioning.models.files import embedded_folder
from captioning.models.sources import download, hub
from captioning.models.sources.hub import DownloadProgress
from captioning.serving.loading import load_uncached
from tests.conftest import at_once
from tests.fake_hub import FakeHub, Repository, commit_of
from tests.tiny_models import drawing

CPU = torch.device("cpu")
BASE = "Salesforce/blip-image-captioning-base"
TYPED = "somebody/tiny-blip"


@pytest.fixture
def folder(tiny_folders: dict[str, Path], tmp_path: Path) -> Path:
    """A BLIP folder that a test may spoil."""
    return Path(shutil.copytree(tiny_folders["blip"], tmp_path / "model"))


@pytest.fixture
def pinned(fake_hub: FakeHub, folder: Path) -> tuple[ModelSpec, Repository]:
    """BLIP base of the registry, tiny, at its pinned commit, among files that nobody should fetch."""
    spec = get_spec(BASE)
    for name in ("tf_model.h5", "flax_model.msgpack", "pytorch_model.bin", "README.md"):
        (folder / name).write_bytes(b"x" * 30_000)
    return spec, fake_hub.add(BASE, folder, commit=spec.revision)


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def open_folder(folder: Path) -> NetworkCaptioner:
    spec = hub.resolve_spec(str(folder))
    return NetworkCaptioner(spec, hub.open_network(spec, CPU, torch.float32))


# Names


def test_a_registered_name_gives_its_spec_without_the_network(fake_hub: FakeHub) -> None:
    assert hub.resolve_spec(BASE).revision == get_spec(BASE).revision
    assert hub.resolve_spec("embedded").family == "patch_captioner"
    assert fake_hub.requests == []


def test_untrained_models_say_so(fake_hub: FakeHub) -> None:
    spec = hub.resolve_spec("untrained:blip-large")
    assert spec.family == "blip"
    assert "untrained" in spec.title
    assert "random" in spec.license
    assert hub.find_local(spec) is None
    with pytest.raises(UnknownModelError, match="untrained:blip-base"):
        hub.resolve_spec("untrained:gpt")
    assert fake_hub.requests == []


def test_a_folder_tells_its_family(tiny_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, folder in tiny_folders.items():
        spec = hub.resolve_spec(str(folder))
        assert spec.family == name.split("-")[0]
        assert spec.repo_id is None
        assert hub.find_local(spec) == folder
        monkeypatch.chdir(folder.parent)
        assert hub.resolve_spec(folder.name).model_id == str(folder)


@pytest.mark.parametrize(
    "name", ["", "no such model", "./nowhere", "a/b/c", "..", "blip", "owner/", "~nobody/x", "a\0b", "x" * 5000]
)
def test_a_name_that_stands_for_nothing_lists_the_choices(
    name: str, fake_hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UnknownModelError, ModelFilesError)) as caught:
        hub.resolve_spec(name)
    assert len(str(caught.value)) < 500
    if name != "..":
        assert BASE in str(caught.value)
    assert fake_hub.requests == []


def test_the_nearest_name_is_offered(fake_hub: FakeHub) -> None:
    with pytest.raises(UnknownModelError, match="did you mean embedded"):
        hub.resolve_spec("Embeded")
    with pytest.raises(HubError, match=f"did you mean {BASE}"):
        hub.resolve_spec("Salesforce/blip-image-captioning-bse")


def test_a_typed_name_is_looked_up_downloaded_and_then_found_without_the_hub(fake_hub: FakeHub, folder: Path) -> None:
    fake_hub.add(TYPED, folder)
    spec = hub.resolve_spec(TYPED)
    assert (spec.family, spec.repo_id, spec.revision) == ("blip", TYPED, commit_of(TYPED))
    assert spec.license == "bsd-3-clause"
    names = [path.name for path in folder.iterdir() if path.name != "generation_config.json"]
    assert spec.download_bytes == sum((folder / name).stat().st_size for name in names)
    assert hub.find_local(spec) is None
    captioner = NetworkCaptioner(spec, hub.open_network(spec, CPU, torch.float32))
    expected = open_folder(folder)
    captions = [c.decode(c.encode([drawing(0)])[0], ["dog"], DecodingOptions())[0] for c in (captioner, expected)]
    assert captions[0].token_ids == captions[1].token_ids
    assert captions[0].revision == commit_of(TYPED)
    fake_hub.close()
    again = hub.resolve_spec(TYPED)
    assert again.revision == spec.revision
    hub.open_network(again, CPU, torch.float32)


@pytest.mark.parametrize(
    "family",
    ["blip", "patch_captioner", "vision_encoder_decoder-vit-gpt2", "git", "image_text_to_text-smolvlm"],
)
def test_every_family_can_come_from_the_hub(
    family: str, fake_hub: FakeHub, tiny_folders: dict[str, Path], tmp_path: Path
) -> None:
    fake_hub.add(TYPED, tiny_folders[family])
    spec = hub.resolve_spec(TYPED)
    assert spec.family == family.split("-")[0]
    folder = hub.download(spec)
    assert hub.find_local(spec) == folder


def test_a_registered_model_without_a_pinned_revision_means_what_was_downloaded(
    fake_hub: FakeHub, tiny_folders: dict[str, Path]
) -> None:
    name = "microsoft/git-base-coco"
    spec = hub.resolve_spec(name)
    assert spec.revision is None
    assert hub.find_local(spec) is None
    fake_hub.add(name, tiny_folders["git"])
    folder = hub.download(spec)
    fake_hub.close()
    assert hub.find_local(spec) == folder
    again = hub.resolve_spec(name)
    assert again == replace(spec, revision=commit_of(name))
    hub.open_network(again, CPU, torch.float32)


def test_the_first_session_of_a_model_without_a_pinned_revision_says_which_one_it_got(
    fake_hub: FakeHub, tiny_folders: dict[str, Path]
) -> None:
    name = "microsoft/git-base-coco"
    fake_hub.add(name, tiny_folders["git"])
    captioner = load_uncached(name, "cpu", "float32")
    assert captioner.spec.revision == commit_of(name)
    (features,) = captioner.encode([drawing(0)])
    assert captioner.decode(features, [""], DecodingOptions(max_new_tokens=2))[0].revision == commit_of(name)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_room_is_asked_for_when_a_model_is_here_and_for_what_its_weights_will_take(
    fake_hub: FakeHub, folder: Path, precision: str
) -> None:
    edit_weights(folder, lambda weights: weights.update({name: value.half() for name, value in weights.items()}))
    fake_hub.add(TYPED, folder)
    heard: list[object] = []
    captioner = load_uncached(TYPED, "cpu", precision, heard.append, heard.append, engine="torch")
    *downloads, room = heard
    assert isinstance(downloads[-1], DownloadProgress)
    assert downloads[-1].done_bytes == downloads[-1].total_bytes
    assert room == pytest.approx(captioner.num_bytes, rel=0.05)


def test_a_registered_model_without_a_pinned_revision_needs_safe_weights(
    fake_hub: FakeHub, tiny_folders: dict[str, Path], tmp_path: Path
) -> None:
    name = "microsoft/git-base"
    folder = Path(shutil.copytree(tiny_folders["git"], tmp_path / "git"))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    fake_hub.add(name, folder)
    with pytest.raises(ModelFilesError, match="safe format"):
        hub.download(hub.resolve_spec(name))


def test_a_typed_name_of_another_kind_is_refused(fake_hub: FakeHub, folder: Path) -> None:
    edit_json(folder / "config.json", lambda v: v.update(architectures=["BlipForQuestionAnswering"]))
    fake_hub.add(TYPED, folder)
    with pytest.raises(ModelFilesError, match="BlipForQuestionAnswering"):
        hub.resolve_spec(TYPED)


def test_a_typed_name_needs_safe_weights(fake_hub: FakeHub, folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    fake_hub.add(TYPED, folder)
    with pytest.raises(ModelFilesError, match="safe format"):
        hub.resolve_spec(TYPED)
    assert not fake_hub.bytes_of("pytorch_model.bin")


# Downloads


def test_only_what_is_needed_is_fetched(fake_hub: FakeHub, pinned: tuple[ModelSpec, Repository]) -> None:
    spec, _ = pinned
    assert hub.find_local(spec) is None
    folder = hub.download(spec)
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    }
    assert not any(
        path.endswith((".h5", ".msgpack", ".bin")) for method, path, _ in fake_hub.requests if method == "GET"
    )
    assert hub.find_local(spec) == folder


def test_looking_for_a_model_never_asks_the_network(fake_hub: FakeHub, pinned: tuple[ModelSpec, Repository]) -> None:
    spec, _ = pinned
    hub.find_local(spec)
    hub.download(spec)
    before = len(fake_hub.requests)
    assert hub.find_local(spec) is not None
    hub.open_network(spec, CPU, torch.float32)
    assert len(fake_hub.requests) == before


def test_progress_grows_to_the_whole(pinned: tuple[ModelSpec, Repository], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_CHUNK_BYTES", 10_000)
    spec, repository = pinned
    heard: list[DownloadProgress] = []
    folder = hub.download(spec, heard.append)
    done = [progress.done_bytes for progress in heard]
    assert done == sorted(done)
    assert len(set(done)) > 5
    assert done[0] == 0
    total = sum(path.stat().st_size for path in folder.iterdir())
    assert done[-1] == heard[-1].total_bytes == total
    assert {progress.total_bytes for progress in heard} == {total}
    assert repository.files["model.safetensors"] == (folder / "model.safetensors").read_bytes()


def test_the_terminal_shows_a_bar(
    pinned: tuple[ModelSpec, Repository], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    hub.download(pinned[0])
    output = capsys.readouterr()
    assert "BLIP base: 100%" in output.err
    assert output.out == ""


def test_a_broken_connection_is_taken_up_where_it_broke(
    fake_hub: FakeHub, pinned: tuple[ModelSpec, Repository], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_CHUNK_BYTES", 10_000)
    spec, repository = pinned
    repository.break_after = 35_000
    folder = hub.download(spec)
    assert (folder / "model.safetensors").read_bytes() == repository.files["model.safetensors"]
    first, second = fake_hub.bytes_of("content/" + BASE + "/model.safetensors")
    assert first is None
    assert second == "bytes=30000-"


def test_a_stopped_download_goes_on_later(
    fake_hub: FakeHub, pinned: tuple[ModelSpec, Repository], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_CHUNK_BYTES", 10_000)
    spec, repository = pinned

    def stop(progress: DownloadProgress) -> None:
        if progress.done_bytes >= 40_000:
            raise Stopped("enough")

    with pytest.raises(Stopped):
        hub.open_network(spec, CPU, torch.float32, stop)
    assert hub.find_local(spec) is None
    heard: list[DownloadProgress] = []
    folder = hub.download(spec, heard.append)
    assert next(progress.done_bytes for progress in heard if progress.done_bytes) >= 40_000
    assert fake_hub.bytes_of("content/" + BASE + "/model.safetensors")[1] == "bytes=40000-"
    assert (folder / "model.safetensors").read_bytes() == repository.files["model.safetensors"]


def test_a_hub_that_ignores_ranges_sends_everything_again(
    pinned: tuple[ModelSpec, Repository], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_CHUNK_BYTES", 10_000)
    spec, repository = pinned
    repository.break_after, repository.ignores_ranges = 35_000, True
    heard: list[DownloadProgress] = []
    folder = hub.download(spec, heard.append)
    assert (folder / "model.safetensors").read_bytes() == repository.files["model.safetensors"]
    assert heard[-1].done_bytes == heard[-1].total_bytes


def test_a_connection_that_stays_broken_gives_one_sentence_and_keeps_what_came(
    fake_hub: FakeHub, pinned: tuple[ModelSpec, Repository], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_CHUNK_BYTES", 10_000)
    spec, repository = pinned
    closing = threading.Event()

    def close(progress: DownloadProgress) -> None:
        if progress.done_bytes >= 30_000 and not closing.is_set():
            closing.set()
            fake_hub.close()

    repository.break_after = 35_000
    with pytest.raises(HubError, match="cannot be reached"):
        hub.download(spec, close)
    (partial,) = download.storage_folder(BASE).glob("blobs/*.part")
    assert partial.stat().st_size == 30_000


def test_a_file_that_arrives_damaged_is_thrown_away(
    pinned: tuple[ModelSpec, Repository], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, _ = pinned
    original = download._append

    def damage(*arguments: Any) -> None:
        original(*arguments)
        partial = arguments[3]
        data = bytearray(partial.read_bytes())
        data[-1] ^= 1
        partial.write_bytes(data)

    monkeypatch.setattr(download, "_append", damage)
    with pytest.raises(HubError, match="damaged"):
        hub.download(spec)
    monkeypatch.setattr(download, "_append", original)
    hub.download(spec)


def test_a_damaged_cache_is_mended(pinned: tuple[ModelSpec, Repository]) -> None:
    spec, repository = pinned
    weights = hub.download(spec) / "model.safetensors"
    weights.resolve().write_bytes(weights.read_bytes()[:1000])
    assert hub.find_local(spec) is None
    hub.open_network(spec, CPU, torch.float32)
    assert weights.read_bytes() == repository.files["model.safetensors"]


def test_a_cache_with_the_weights_alone_is_completed(pinned: tuple[ModelSpec, Repository]) -> None:
    spec, _ = pinned
    folder = hub.download(spec)
    for names in (("tokenizer.json", "vocab.txt"), ("preprocessor_config.json",)):
        for name in names:
            (folder / name).unlink()
        assert hub.find_local(spec) is None
        hub.open_network(spec, CPU, torch.float32)
        assert (folder / names[0]).is_file()


def test_two_who_download_at_once_share_one_download(fake_hub: FakeHub, pinned: tuple[ModelSpec, Repository]) -> None:
    spec, _ = pinned
    at_once(hub.download, [spec] * 3)
    assert hub.find_local(spec) is not None
    assert len(fake_hub.bytes_of("content/" + BASE + "/model.safetensors")) == 1


def test_no_connection_gives_one_sentence(fake_hub: FakeHub) -> None:
    fake_hub.close()
    for attempt in (lambda: hub.download(get_spec(BASE)), lambda: hub.resolve_spec(TYPED)):
        with pytest.raises(HubError, match=r"cannot be reached.*connect to the internet.*embedded") as caught:
            attempt()
        assert "\n" not in str(caught.value)


def test_offline_mode_is_named(fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        hub.download(get_spec(BASE))
    assert fake_hub.requests == []


def test_an_unknown_name_gives_one_sentence(fake_hub: FakeHub) -> None:
    with pytest.raises(HubError, match=r"no model somebody/nothing.*private.*hf auth login"):
        hub.resolve_spec("somebody/nothing")


def test_an_unknown_revision_gives_one_sentence(fake_hub: FakeHub, folder: Path) -> None:
    fake_hub.add(BASE, folder)
    with pytest.raises(HubError, match=f"no revision {get_spec(BASE).revision}"):
        hub.download(get_spec(BASE))


def test_a_gated_model_names_its_page(pinned: tuple[ModelSpec, Repository]) -> None:
    spec, repository = pinned
    repository.is_gated = True
    with pytest.raises(HubError, match=f"accepted its terms.*huggingface.co/{BASE}"):
        hub.download(spec)


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.txt"])
def test_a_file_that_cannot_be_had_is_named(pinned: tuple[ModelSpec, Repository], name: str) -> None:
    spec, repository = pinned
    repository.unlisted.add(name)
    with pytest.raises(HubError, match=f"lacks a file that it needs \\({name}\\)"):
        hub.download(spec)


@pytest.mark.parametrize(
    ("status", "words"), [(401, "sign in"), (403, "terms"), (500, "error 500"), (429, "error 429")]
)
def test_a_refusal_gives_one_sentence(
    fake_hub: FakeHub, pinned: tuple[ModelSpec, Repository], status: int, words: str
) -> None:
    fake_hub.status = status
    with pytest.raises(HubError, match=words) as caught:
        hub.download(pinned[0])
    assert "\n" not in str(caught.value)


def test_a_full_disk_gives_one_sentence(
    fake_hub: FakeHub, pinned: tuple[ModelSpec, Repository], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "_append", full)
    with pytest.raises(HubError, match=r"disk is too full.*HF_HOME"):
        hub.download(pinned[0])
    usage = shutil.disk_usage(".")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    before = len(fake_hub.bytes_of("model.safetensors"))
    with pytest.raises(HubError, match="disk is too full"):
        hub.download(pinned[0])
    assert len(fake_hub.bytes_of("model.safetensors")) == before


def test_a_cache_that_cannot_be_written_gives_one_sentence(
    pinned: tuple[ModelSpec, Repository], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(download, "_append", forbidden)
    with pytest.raises(HubError, match="cannot be written"):
        hub.download(pinned[0])


# Files


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match=r"is no model.*config\.json"):
        hub.resolve_spec(str(tmp_path))
    (tmp_path / "config.json").write_text("[1", encoding="utf-8")
    with pytest.raises(ModelFilesError, match="is no model"):
        hub.resolve_spec(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(ModelFilesError, match=r"another kind \(bert\).*blip, .*patch_captioner"):
        hub.resolve_spec(str(tmp_path))


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_a_model_that_asks_to_run_its_own_code_is_refused(folder: Path, fake_hub: FakeHub, file: str) -> None:
    edit_json(folder / file, lambda v: v.update(auto_map={"AutoModel": "modeling.Evil"}))
    with pytest.raises(ModelFilesError, match="code of its own"):
        hub.resolve_spec(str(folder))
    fake_hub.add(TYPED, folder)
    with pytest.raises(ModelFilesError, match="code of its own"):
        hub.open_network(hub.resolve_spec(TYPED), CPU, torch.float32)


def test_weights_that_are_cut_off_missing_or_a_pointer_are_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    data = weights.read_bytes()
    for broken in (data[:-1], data[:100], b"", b"\xff" * 200, data + b"x"):
        weights.write_bytes(broken)
        with pytest.raises(ModelFilesError, match="cut off or damaged"):
            hub.resolve_spec(str(folder))
    weights.write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8")
    with pytest.raises(ModelFilesError, match="git lfs pull"):
        hub.resolve_spec(str(folder))
    weights.unlink()
    with pytest.raises(ModelFilesError, match="no weights"):
        hub.resolve_spec(str(folder))


def test_weights_in_several_files_are_loaded(folder: Path, tiny_captioners: dict[str, NetworkCaptioner]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for shard, keys in shards.items():
        save_file({key: weights[key] for key in keys}, folder / shard, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {key: shard for shard, keys in shards.items() for key in keys}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    captioner = open_folder(folder)
    (one,) = captioner.encode([drawing(0)])
    (other,) = tiny_captioners["blip"].encode([drawing(0)])
    assert torch.equal(one.encoder_hidden_states, other.encoder_hidden_states)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelFilesError, match="model-00002-of-00002"):
        hub.resolve_spec(str(folder))
    index["weight_map"] = dict.fromkeys(names, "../elsewhere.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(ModelFilesError, match="damaged"):
        hub.resolve_spec(str(folder))


SPOILED: dict[str, tuple[str, Callable[[dict[str, torch.Tensor]], object]]] = {
    "missing": ("1 missing", lambda w: w.pop("text_decoder.bert.encoder.layer.0.crossattention.self.key.weight")),
    "unknown": ("not part of the model", lambda w: w.update({"text_encoder.layer.weight": torch.zeros(3)})),
    "misshaped": ("do not fit", lambda w: w.update({"vision_model.post_layernorm.weight": torch.zeros(7)})),
}


@pytest.mark.parametrize("fault", SPOILED)
def test_weights_that_do_not_fit_the_configuration_are_refused(folder: Path, fault: str) -> None:
    words, spoil = SPOILED[fault]
    edit_weights(folder, spoil)
    with pytest.raises(ModelFilesError, match=words):
        open_folder(folder)


def test_a_configuration_that_does_not_fit_the_weights_is_refused(folder: Path) -> None:
    saved = (folder / "config.json").read_text(encoding="utf-8")
    for key, value in (("num_hidden_layers", 3), ("num_hidden_layers", 1), ("hidden_size", 64), ("vocab_size", 500)):
        values = json.loads(saved)
        values["text_config"][key] = value
        (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
        with pytest.raises(ModelFilesError, match="do not fit"):
            open_folder(folder)
    edit_json(folder / "config.json", lambda v: v["vision_config"].update(hidden_size="many"))
    with pytest.raises(ModelFilesError, match=r"cannot be loaded|do not fit"):
        open_folder(folder)


def test_old_checkpoints_with_a_position_counter_are_accepted(folder: Path) -> None:
    positions = torch.arange(40)[None]
    edit_weights(folder, lambda w: w.update({"text_decoder.bert.embeddings.position_ids": positions}))
    open_folder(folder)


class Evil:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_pickled_weights_are_refused_in_folders(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelFilesError, match="can run code"):
        hub.resolve_spec(str(folder))


def test_pickled_weights_of_a_pinned_revision_load_as_plain_tensors(
    fake_hub: FakeHub, folder: Path, tiny_captioners: dict[str, NetworkCaptioner]
) -> None:
    from safetensors.torch import load_file

    spec = get_spec(BASE)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    fake_hub.add(BASE, folder, commit=spec.revision)
    captioner = NetworkCaptioner(spec, hub.open_network(spec, CPU, torch.float32))
    (one,) = captioner.encode([drawing(0)])
    (other,) = tiny_captioners["blip"].encode([drawing(0)])
    assert torch.equal(one.encoder_hidden_states, other.encoder_hidden_states)
    pretended = replace(spec, revision="0" * 40)
    fake_hub.add(BASE, folder, commit=pretended.revision)
    with pytest.raises(ModelFilesError, match="safe format"):
        hub.download(pretended)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_pickled_code_never_runs(fake_hub: FakeHub, folder: Path, tmp_path: Path) -> None:
    spec = get_spec(BASE)
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"weight": Evil(tmp_path / "owned")}))
        archive.writestr("archive/version", "3\n")
    (folder / "model.safetensors").unlink()
    fake_hub.add(BASE, folder, commit=spec.revision)
    with pytest.raises(ModelFilesError):
        hub.open_network(spec, CPU, torch.float32)
    assert not (tmp_path / "owned").exists()


def test_too_little_memory_is_told_apart_from_bad_files(
    tiny_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import BlipForConditionalGeneration

    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    spec = hub.resolve_spec(str(tiny_folders["blip"]))
    monkeypatch.setattr(BlipForConditionalGeneration, "from_pretrained", fail)
    with pytest.raises(ModelError, match="does not fit into the memory"):
        hub.open_network(spec, CPU, torch.float32)


def test_the_embedded_folder_does_not_depend_on_where_one_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert embedded_folder().is_absolute()
    assert embedded_folder().parts[-2:] == ("assets", "embedded")
