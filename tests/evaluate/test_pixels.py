"""The pixel presets on real videos: indices, geometry, statistics, padding, and what is done without frames."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.evaluate.conftest import make_frames, make_videos

from tvts.corpus.media import read_frames
from tvts.evaluate.pixels import Preset, load_video, load_videos, to_batch
from tvts.model.processing import PIXELS, resize_and_crop

OFFICIAL = Preset("official", 32, 4, "pyav")
MEAN, SD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@pytest.mark.parametrize(("height", "width"), [(40, 56), (240, 320), (333, 500), (720, 1280), (268, 300), (100, 91)])
def test_official_geometry_is_that_of_nearest_pil_resize_and_centre_crop(height: int, width: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    short, side = 268, 224
    scale = short / min(height, width)
    size = [int(side_ * short / min(height, width)) for side_ in (width, height)] if scale != 1 else [width, height]
    resized = Image.fromarray(image).resize((size[0], size[1]), Image.Resampling.NEAREST)
    left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
    expected = np.asarray(resized.crop((left, top, left + side, top + side)))
    ours = resize_and_crop(torch.from_numpy(image).permute(2, 0, 1)[None], side, PIXELS["official"])[0].permute(1, 2, 0)
    assert np.array_equal(ours.numpy(), expected)


def test_frames_are_the_segment_middles(tmp_path: Path) -> None:
    path = make_videos(tmp_path, ["a.mp4"], count=24) / "a.mp4"
    frames = torch.from_numpy(read_frames(path, [2, 8, 14, 20], "pyav")).permute(0, 3, 1, 2)
    expected = resize_and_crop(frames, 32, PIXELS["official"])
    assert torch.equal(load_video(path, OFFICIAL).frames, expected)


def test_readers_agree(tmp_path: Path) -> None:
    path = make_videos(tmp_path, ["a.mp4"], count=24) / "a.mp4"
    assert torch.equal(load_video(path, OFFICIAL).frames, load_video(path, OFFICIAL._replace(reader="decord")).frames)


def test_short_videos_are_padded_with_zeros_after_normalisation(tmp_path: Path) -> None:
    path = make_videos(tmp_path, ["a.mp4"], count=3) / "a.mp4"
    video = load_video(path, OFFICIAL)
    pixels, real = to_batch([video], OFFICIAL, torch.device("cpu"))
    assert real.tolist() == [[True, True, True, False]]
    assert pixels[0, 3].abs().max() == 0
    first = (video.frames[0].float() / 255 - MEAN[:, None, None]) / SD[:, None, None]
    assert torch.allclose(pixels[0, 0], first, atol=1e-5)


def test_missing_and_unreadable_videos_become_one_black_frame(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"not a video" * 100)
    whole = make_videos(tmp_path, ["whole.mp4"]) / "whole.mp4"
    (tmp_path / "cut.mp4").write_bytes(whole.read_bytes()[:200])
    paths = [tmp_path / name for name in ("absent.mp4", "broken.mp4", "cut.mp4", "whole.mp4")]
    videos = list(load_videos(paths, OFFICIAL, threads=2))
    assert [video.problem for video in videos] == ["missing", "unreadable", "unreadable", None]
    pixels, real = to_batch(videos, OFFICIAL, torch.device("cpu"))
    assert real.sum(1).tolist() == [1, 1, 1, 4]
    assert torch.allclose(pixels[0, 0, :, 0, 0], -MEAN / SD)


def test_videos_come_in_order_whatever_the_threads(tmp_path: Path) -> None:
    names = [f"{i}.mp4" for i in range(11)]
    folder = make_videos(tmp_path, names)
    one, many = ([v.frames for v in load_videos([folder / n for n in names], OFFICIAL, t)] for t in (1, 3))
    assert all(torch.equal(a, b) for a, b in zip(one, many, strict=True)) and len(one) == 11
    assert not torch.equal(one[0], one[1])


def test_clip_preset_is_clip_s_own_preprocessing() -> None:
    from transformers import CLIPImageProcessor

    frames = make_frames(0, 1, 60, 90)
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    expected = torch.as_tensor(np.asarray(processor(images=frames[0])["pixel_values"][0]))
    preset = Preset("clip", 32, 1, "pyav")
    from tvts.evaluate.pixels import Video

    ours = resize_and_crop(torch.from_numpy(frames).permute(0, 3, 1, 2), 32, PIXELS["clip"])
    pixels, _ = to_batch([Video(ours)], preset, torch.device("cpu"))
    assert (pixels[0, 0] - expected).abs().mean() < 0.02
