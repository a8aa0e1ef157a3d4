"""Clips of every kind give the right frames at the right times; what is no clip gives one sentence."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioning import sample_frames
from captioning.core.errors import Stopped, VideoError
from captioning.core.settings import Settings
from captioning.core.types import VideoFrame
from captioning.media import clip_index, frame_readers, pyav_reader
from captioning.media.clip_index import index_clip
from captioning.media.display import Pixels
from captioning.media.frame_readers import fit_size, read_frames
from captioning.media.video import Clip, choose_frames, sample_clip
from tests.clips import RATE, make_animation, make_clip, make_sound, paint, read_number, spoil, trim, turn

KINDS = {
    "h264.mp4": ("libx264", {}),
    "hevc.mp4": ("libx265", {"options": {"x265-params": "log-level=none"}}),
    "vp9.webm": ("libvpx-vp9", {"options": {"deadline": "realtime", "cpu-used": "8"}}),
    "av1.mp4": ("libsvtav1", {"options": {"preset": "12"}}),
    "mpeg4.avi": ("mpeg4", {}),
    "mpeg4-b.avi": ("mpeg4", {"options": {"bf": "2"}}),
    "h264.avi": ("libx264", {}),
    "loop.gif": ("gif", {"pix_fmt": "rgb8"}),
    "ten-bit.mp4": ("libx264", {"pix_fmt": "yuv420p10le"}),
    "ten-bit-hevc.mp4": ("libx265", {"pix_fmt": "yuv420p10le", "options": {"x265-params": "log-level=none"}}),
    "h264.mkv": ("libx264", {}),
    # What a browser's recorder writes: no length, no table of places.
    "live.webm": ("libvpx-vp9", {"options": {"deadline": "realtime"}, "container_options": {"live": "1"}}),
    "fragments.mp4": ("libx264", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
    "closed-hevc.mp4": ("libx265", {"options": {"x265-params": "log-level=none:open-gop=0"}}),
    "open-h264.mp4": ("libx264", {"options": {"x264-params": "open-gop=1:bframes=3:b-pyramid=2"}}),
    "h264.flv": ("libx264", {}),
    "h264.ts": ("libx264", {}),
    "h264.mov": ("libx264", {"pix_fmt": "yuv444p"}),
}


@pytest.fixture(autouse=True)
def nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test does: no temporary files, and no clip left open."""
    spare = tmp_path / "spare"
    spare.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spare))
    yield
    assert list(spare.iterdir()) == []
    if Path("/proc/self/fd").is_dir():
        opened = [link.resolve() for link in Path("/proc/self/fd").iterdir()]
        assert [file for file in opened if tmp_path in file.parents] == []


def read_nothing(*_: object) -> Iterator[tuple[int, Pixels]]:
    yield from ()


def numbers_of(frames: tuple[VideoFrame, ...]) -> list[int]:
    return [read_number(frame.image.image) for frame in frames]


def check(clip: Clip) -> None:
    """The painted numbers are those of the frames, and the times those of the numbers."""
    assert numbers_of(clip.frames) == [frame.index for frame in clip.frames]
    assert [frame.seconds for frame in clip.frames] == pytest.approx([f.index / RATE for f in clip.frames], abs=2e-3)


@pytest.mark.parametrize("backend", ["auto", "pyav", "decord"])
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_clip_gives_the_middles_of_equal_segments(tmp_path: Path, name: str, backend: str) -> None:
    codec, options = KINDS[name]
    path = make_clip(tmp_path / name, codec, **options)  # type: ignore[arg-type]
    try:
        clip = sample_clip(path, 7, backend=backend)  # type: ignore[arg-type]
    except VideoError:
        assert backend == "decord", "only decord may refuse, and PyAV then reads"
        return
    check(clip)
    assert [frame.index for frame in clip.frames] == [int((k + 0.5) * 30 / 7) for k in range(7)]
    assert clip.index.duration == pytest.approx(3.0, abs=0.01)
    assert clip.index.size == (96, 64)
    assert clip.skipped == 0


@pytest.mark.skipif(sys.platform != "linux", reason="decord has no wheel everywhere")
def test_both_backends_give_the_same_frames(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "h264.mp4")
    pairs = zip(sample_frames(path, 9, backend="pyav"), sample_frames(path, 9, backend="decord"), strict=True)
    for a, b in pairs:
        assert (a.index, a.seconds) == (b.index, b.seconds)
        difference = np.abs(np.asarray(a.image.image, int) - np.asarray(b.image.image, int))
        assert difference.mean() < 3


@pytest.mark.skipif(sys.platform != "linux", reason="decord has no wheel everywhere")
def test_decord_is_tried_where_pyav_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_clip(tmp_path / "h264.mp4")
    assert sample_clip(path, 4).backend == "pyav"

    monkeypatch.setitem(frame_readers._READERS, "pyav", read_nothing)
    clip = sample_clip(path, 4)
    assert clip.backend == "decord"
    check(clip)


@pytest.mark.parametrize("backend", ["decord", "auto"])
@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ModuleNotFoundError("No module named 'decord'"), "decord is not installed"),
        (AttributeError("module 'decord' has no attribute '_ffi'"), r"cannot be loaded \(AttributeError\)"),
        (RuntimeError("CUDA driver version is insufficient"), r"cannot be loaded \(RuntimeError\)"),
    ],
)
def test_where_decord_does_not_load_pyav_reads_and_a_note_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, reason: str, backend: str
) -> None:
    class Refuse:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "decord":
                raise failure

    monkeypatch.delitem(sys.modules, "decord", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Refuse(), *sys.meta_path])
    clip = sample_clip(make_clip(tmp_path / "h264.mp4"), 4, backend=backend)  # type: ignore[arg-type]
    check(clip)
    assert clip.backend == "pyav"
    assert bool(re.search(reason, clip.note)) == (backend == "decord")


def test_where_decord_does_not_load_a_clip_that_pyav_cannot_decode_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)
    monkeypatch.setitem(frame_readers._READERS, "pyav", read_nothing)
    with pytest.raises(VideoError, match=r"No frame of h264\.mp4 can be decoded"):
        sample_clip(make_clip(tmp_path / "h264.mp4"), 4)


@pytest.mark.parametrize("suffix", [".webp", ".gif", ".png"])
@pytest.mark.parametrize("count", [1, 4])
def test_animations_are_clips(tmp_path: Path, suffix: str, count: int) -> None:
    clip = sample_clip(make_animation(tmp_path / f"loop{suffix}"), count)
    check(clip)
    assert clip.index.duration == pytest.approx(1.0)
    assert [f.index for f in clip.frames] == ([5] if count == 1 else [1, 3, 6, 8])


@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("backend", ["auto", "pyav"])
def test_a_turned_clip_comes_upright(tmp_path: Path, degrees: int, backend: str) -> None:
    # The camera was turned one way, so the picture is to be turned back the other way.
    path = turn(make_clip(tmp_path / "turned.mp4", turns=degrees // 90), degrees)
    clip = sample_clip(path, 5, backend=backend, max_side=90)  # type: ignore[arg-type]
    check(clip)
    assert clip.index.size == (96, 64)
    assert {frame.image.image.size for frame in clip.frames} == {(90, 60)}


@pytest.mark.parametrize("backend", ["auto", "pyav"])
@pytest.mark.parametrize("name", ["varying.mp4", "varying.mkv"])
def test_a_variable_frame_rate_keeps_its_times(tmp_path: Path, backend: str, name: str) -> None:
    times = [0.0, 0.1, 0.2, 1.0, 1.05, 1.1, 3.0, 3.5, 3.6, 3.9]
    path = make_clip(tmp_path / name, numbers=range(10), times=times)
    frames = sample_frames(path, 4, 0, 4, backend=backend)  # type: ignore[arg-type]
    # Shown at 0.5, 1.5, 2.5 and 3.5 s; the frame of 1.1 s stays until 3 s and stands for two of them.
    assert numbers_of(frames) == [2, 5, 7]
    assert [frame.seconds for frame in frames] == pytest.approx([0.2, 1.1, 3.5], abs=2e-3)


def test_one_frame_is_the_middle_and_a_range_is_kept(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "h264.mp4")
    assert numbers_of(sample_frames(path, 1)) == [15]
    assert numbers_of(sample_frames(path, 2, 1.0, 2.0)) == [12, 17]
    assert numbers_of(sample_frames(path, 2, 2.0, 99.0)) == [22, 27]


@pytest.mark.parametrize("name", ["one.mp4", "one.mkv", "one.gif"])
def test_a_single_frame_is_a_clip_of_one_frame(tmp_path: Path, name: str) -> None:
    codec, pix_fmt = ("gif", "rgb8") if name.endswith("gif") else ("libx264", "yuv420p")
    path = make_clip(tmp_path / name, codec, [7], pix_fmt=pix_fmt)
    frames = sample_frames(path, 16)
    assert (numbers_of(frames), [f.index for f in frames], [f.seconds for f in frames]) == ([7], [0], [0.0])


def test_more_frames_than_the_clip_has_gives_each_once(tmp_path: Path) -> None:
    assert numbers_of(sample_frames(make_clip(tmp_path / "short.mp4", numbers=range(5)), 64)) == [0, 1, 2, 3, 4]


def test_frames_come_no_larger_than_asked_and_are_never_enlarged(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "h264.mp4")
    assert sample_frames(path, 1, max_side=80)[0].image.image.size == (80, 53)
    assert sample_frames(path, 1, max_side=5000)[0].image.image.size == (96, 64)
    assert fit_size((1920, 1080), 768) == (768, 432)
    assert fit_size((1080, 1920), None) == (1080, 1920)


def test_a_frame_is_the_same_whichever_others_are_read_with_it(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "h264.mp4")
    index = index_clip(path)
    alone, among = read_frames(index, [17]).frames, read_frames(index, range(30)).frames
    assert alone[0].image.image_id == among[17].image.image_id


def test_frames_that_cannot_be_decoded_are_left_out_and_counted(tmp_path: Path) -> None:
    path = spoil(make_clip(tmp_path / "spoilt.mp4", gop=1), [10, 11])
    clip = sample_clip(path, 30)
    check(clip)
    assert clip.skipped == 2
    assert {10, 11} == set(range(30)) - {frame.index for frame in clip.frames}


def test_only_what_is_needed_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_clip(tmp_path / "keys.mp4", numbers=range(200), gop=10)
    entered: list[int] = []
    inner = pyav_reader._decode_group

    def counted(container: object, index: object, key: int, *rest: object) -> object:
        entered.append(key)
        return inner(container, index, key, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(pyav_reader, "_decode_group", counted)
    assert numbers_of(sample_frames(path, 2, backend="pyav")) == [50, 150]
    assert len(entered) == 2


@pytest.mark.parametrize("backend", ["auto", "pyav"])
def test_reading_stops_between_frames(tmp_path: Path, backend: str) -> None:
    path = make_clip(tmp_path / "h264.mp4")
    heard: list[tuple[int, int]] = []

    def on_frame(done: int, total: int) -> None:
        heard.append((done, total))
        if done == 3:
            raise Stopped("Stopped.")

    with pytest.raises(Stopped):
        sample_frames(path, 8, backend=backend, on_frame=on_frame)  # type: ignore[arg-type]
    assert heard[-1] == (3, 8)


def test_reading_stops_on_the_way_to_a_frame(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "one-group.mp4", numbers=[0] * 250, gop=250)
    calls = 0

    def on_frame(done: int, total: int) -> None:
        nonlocal calls
        calls += bool(total)
        if calls > 20:
            assert done == 0
            raise Stopped("Stopped.")

    with pytest.raises(Stopped):
        sample_frames(path, 1, backend="pyav", on_frame=on_frame)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"This is a text, whatever it is called.\n" * 40, "is not a video"),
        (b"#EXTM3U\n#EXTINF:1,\nhttp://192.0.2.1/a.ts\n", "is not a video"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "is not a video"),
        (b"\x00\x00\x00\x18ftypisom" + b"\x00" * 400, "is damaged or cut off"),
        (os.urandom(5000), "is not a video"),
    ],
)
def test_what_is_no_clip_is_one_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    started = time.monotonic()
    with pytest.raises(VideoError, match=sentence) as error:
        sample_frames(path)
    assert str(error.value).startswith("clip.mp4 ")
    assert str(tmp_path) not in str(error.value)
    assert time.monotonic() - started < 5


def test_sound_alone_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"song\.m4a holds only sound"):
        sample_frames(make_sound(tmp_path / "song.m4a"))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", ["cut.mp4", "cut-late.mp4"])
def test_a_cut_off_file_is_one_sentence(tmp_path: Path, name: str, share: float) -> None:
    options = {"movflags": "faststart"} if name == "cut.mp4" else {}
    whole = make_clip(tmp_path / f"whole-{name}", gop=1)
    if options:
        _move_table_to_front(whole)
    path = tmp_path / name
    path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    with pytest.raises(VideoError, match="cut off"):
        sample_frames(path)


def _move_table_to_front(path: Path) -> None:
    import av

    source = path.read_bytes()
    copy = path.with_name("front.mp4")
    with av.open(str(path)) as old, av.open(str(copy), "w", options={"movflags": "faststart"}) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    assert len(copy.read_bytes()) > len(source) // 2
    copy.replace(path)


@pytest.mark.parametrize("backend", ["auto", "decord"])
@pytest.mark.parametrize(("first", "last"), [(5, 29), (0, 19), (7, 19), (15, 18), (13, 13)])
def test_a_trimmed_clip_gives_what_is_to_be_shown(tmp_path: Path, first: int, last: int, backend: str) -> None:
    path = trim(make_clip(tmp_path / "trimmed.mp4"), first / RATE, (last + 1) / RATE)
    try:
        clip = sample_clip(path, 64, backend=backend)  # type: ignore[arg-type]
    except VideoError:
        assert backend == "decord", "only decord may refuse, and PyAV then reads"
        return
    assert numbers_of(clip.frames) == list(range(first, last + 1))
    assert [frame.seconds for frame in clip.frames] == pytest.approx(np.arange(last - first + 1) / RATE, abs=2e-3)
    assert clip.index.duration == pytest.approx((last - first + 1) / RATE, abs=0.01)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_trimmed_clip_that_is_cut_off_is_one_sentence(tmp_path: Path, share: float) -> None:
    path = make_clip(tmp_path / "trimmed.mp4", gop=1)
    _move_table_to_front(path)
    trim(path, 0.5, 3.0)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(VideoError, match="cut off"):
        sample_frames(path)


@pytest.mark.parametrize("name", ["12:30.mp4", "http:x.mp4", "12:30.webp"])
def test_a_name_with_a_colon_is_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    make_animation(Path(name)) if name.endswith("webp") else make_clip(tmp_path / "x.mp4").rename(name)
    assert numbers_of(sample_frames(name, 1)) == [5 if name.endswith("webp") else 15]
    assert index_clip(name).name == name


@pytest.mark.parametrize("name", ["x" * 300 + ".mp4", "a\0b.mp4"])
def test_a_name_that_no_file_can_have_is_one_sentence(name: str) -> None:
    with pytest.raises(VideoError, match="There is no file"):
        sample_frames(name)


def test_a_file_that_may_not_be_read_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_clip(tmp_path / "locked.mp4")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(VideoError, match=r"locked\.mp4 cannot be read \(Permission denied\)"):
        sample_frames(path)


def test_an_animation_of_too_many_pixels_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captioning.media.images.get_settings", lambda: Settings(max_image_pixels=3000))
    with pytest.raises(VideoError, match=r"pixels.*megapixels"):
        sample_frames(make_animation(tmp_path / "loop.webp"))


def test_an_animation_that_is_too_long_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_animation(tmp_path / "loop.webp")
    monkeypatch.setattr(clip_index, "get_settings", lambda: Settings(video_minutes=0))
    with pytest.raises(VideoError, match="minutes long; keep it under 0"):
        sample_frames(path)


@pytest.mark.parametrize("name", ["loop.webp", "loop.gif", "clip.mp4"])
def test_more_frames_than_the_longest_clip_has_are_refused_as_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    if path.suffix == ".mp4":
        make_clip(path, numbers=range(100), times=[n / 100 for n in range(100)])
    else:
        make_animation(path, count=100, milliseconds=10)
    monkeypatch.setattr(clip_index, "get_settings", lambda: Settings(video_minutes=1))
    monkeypatch.setattr(clip_index, "_MOST_FRAMES_PER_SECOND", 1)
    with pytest.raises(VideoError, match=rf"{name} has more than 60 frames; shorten it"):
        index_clip(path)


@pytest.mark.parametrize("name", ["cut.mkv", "fragments.mp4"])
def test_a_cut_off_recording_gives_what_is_there(tmp_path: Path, name: str) -> None:
    options = {"movflags": "frag_every_frame+empty_moov"} if name == "fragments.mp4" else {}
    whole = make_clip(tmp_path / f"whole-{name}", gop=1, container_options=options)
    path = tmp_path / name
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    clip = sample_clip(path, 4)
    check(clip)
    assert 0.5 < clip.index.duration < 2.5


def test_a_still_picture_a_folder_and_no_file_are_one_sentence(tmp_path: Path) -> None:
    still = tmp_path / "still.png"
    Image.fromarray(paint(1)).save(still)
    photo = tmp_path / "photo.jpg"
    Image.fromarray(paint(1)).save(photo)
    for path, sentence in [
        (still, "does not move"),
        (photo, "is a picture, not a video"),
        (tmp_path, "is a folder"),
        (tmp_path / "none.mp4", "There is no file"),
    ]:
        with pytest.raises(VideoError, match=sentence):
            sample_frames(path)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (Settings(video_bytes=1000), "is too large"),
        (Settings(video_minutes=0), "minutes long; keep it under 0"),
        (Settings(max_image_pixels=1000), "96×64 pixels a frame"),
    ],
)
def test_beyond_the_limits_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings, sentence: str
) -> None:
    path = make_clip(tmp_path / "clip.mp4")
    monkeypatch.setattr(clip_index, "get_settings", lambda: settings)
    with pytest.raises(VideoError, match=sentence):
        sample_frames(path)


@pytest.mark.parametrize(
    ("count", "start", "end", "sentence"),
    [
        (0, None, None, "between 1 and 64"),
        (65, None, None, "between 1 and 64"),
        (4, -1.0, None, "from 0 on"),
        (4, float("nan"), None, "from 0 on"),
        (4, 7.0, None, "is 3.00 s long"),
        (4, 2.0, 1.0, "must come after the start"),
    ],
)
def test_a_range_without_frames_is_one_sentence(
    tmp_path: Path, count: int, start: float | None, end: float | None, sentence: str
) -> None:
    with pytest.raises(VideoError, match=sentence):
        sample_frames(make_clip(tmp_path / "clip.mp4"), count, start, end)


def test_middles_are_exact_for_every_count(tmp_path: Path) -> None:
    index = index_clip(make_clip(tmp_path / "long.mp4", numbers=[0] * 128))
    for count in (1, 2, 4, 8, 16, 32, 64):
        step = 128 // count
        assert choose_frames(index, count, 0, index.duration) == [step * k + step // 2 for k in range(count)]


@pytest.mark.slow
def test_ten_minutes_of_1080p_take_less_than_500_mb(tmp_path: Path) -> None:
    code = """
import resource, sys
from captioning import sample_frames
sample_frames(sys.argv[1], 4, max_side=320)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sample_frames(sys.argv[2], 64, max_side=320)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    short = make_clip(tmp_path / "short.mp4")
    long = _make_large(tmp_path / "long.mp4", seconds=600)
    done = subprocess.run(
        [sys.executable, "-c", code, str(short), str(long)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 500


def _make_large(path: Path, seconds: int) -> Path:
    """A clip of 1080p that is quickly written: the same few pictures over and over."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        noise = np.random.default_rng(0).integers(0, 255, (3, 27, 48, 3), np.uint8)
        pictures = [
            av.VideoFrame.from_ndarray(np.ascontiguousarray(n.repeat(40, 0).repeat(40, 1)), format="rgb24").reformat(
                format="yuv420p"
            )
            for n in noise
        ]
        for number in range(seconds * 5):
            frame = pictures[number % 3]
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
