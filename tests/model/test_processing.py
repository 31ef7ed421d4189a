"""Frames and texts as the model takes them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tvts.model import TVTSProcessor, normalize_frames
from tvts.model.processing import PIXELS, resize_and_crop


@pytest.fixture(scope="module")
def processor(clip_folder: Path) -> TVTSProcessor:
    return TVTSProcessor.from_pretrained(clip_folder, image_size=32, context_length=12)


def frames(count: int = 3, height: int = 50, width: int = 70) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def pil_pixels(image: Image.Image, short: int, size: int, resample: Image.Resampling) -> np.ndarray:
    """Resize the short side and cut the centre, with PIL (`eval-protocol`: the official transform)."""
    width, height = image.size
    smaller = min(width, height)
    if smaller != short:
        image = image.resize((int(short * width / smaller), int(short * height / smaller)), resample)
    left, top = (round((side - size) / 2) for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize("shape", [(240, 320), (320, 240), (268, 400), (480, 640), (100, 100), (231, 417)])
def test_official_pixels_equal_pils_nearest_resize(shape: tuple[int, int]) -> None:
    video = frames(2, *shape)
    ours = resize_and_crop(torch.from_numpy(video).permute(0, 3, 1, 2), 224, PIXELS["official"])
    assert ours.shape == (2, 3, 224, 224)
    for frame, image in zip(ours, video, strict=True):
        expected = pil_pixels(Image.fromarray(image), 268, 224, Image.Resampling.NEAREST)
        assert np.array_equal(frame.permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("shape", [(240, 320), (480, 270), (100, 130)])
def test_clip_pixels_equal_pils_bicubic_resize(shape: tuple[int, int]) -> None:
    video = frames(1, *shape)
    ours = resize_and_crop(torch.from_numpy(video).permute(0, 3, 1, 2), 224, PIXELS["clip"])[0]
    expected = pil_pixels(Image.fromarray(video[0]), 224, 224, Image.Resampling.BICUBIC)
    difference = ours.permute(1, 2, 0).numpy().astype(int) - expected
    assert abs(difference).max() <= 1


@pytest.mark.parametrize("pixels", ["official", "clip"])
def test_normalisation_is_mean_and_deviation_of_unit_pixels(pixels: str) -> None:
    video = torch.from_numpy(frames()).permute(0, 3, 1, 2)[None]
    mean, std = PIXELS[pixels].mean, PIXELS[pixels].std
    ours = normalize_frames(video, mean, std)
    expected = (video.double() / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), expected, rtol=1e-6, atol=1e-6)


def test_all_forms_of_a_video_give_the_same(processor: TVTSProcessor) -> None:
    video = frames()
    images = [Image.fromarray(frame) for frame in video]
    expected = processor(videos=video)["video"]
    assert expected.shape == (1, 3, 3, 32, 32) and expected.dtype == torch.float32
    forms = [
        torch.from_numpy(video),
        list(video),
        images,
        [video],
        [images],
        video[None],
        torch.from_numpy(video)[None],
    ]
    for form in forms:
        assert torch.equal(processor(videos=form)["video"], expected)
    assert torch.equal(processor(videos=[video, images])["video"], expected.expand(2, -1, -1, -1, -1))


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (
            frames().astype(np.float32),
            r"videos: expected uint8 RGB frames \[T, H, W, 3\], got float32 \[3, 50, 70, 3\]",
        ),
        (frames().transpose(0, 3, 1, 2), r"got uint8 \[3, 3, 50, 70\]"),
        (np.zeros((3, 50, 70, 4), np.uint8), r"got uint8 \[3, 50, 70, 4\]"),
    ],
)
def test_other_frames_are_refused(processor: TVTSProcessor, video: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        processor(videos=video)


def test_texts_are_padded_to_the_longest_and_grouped(processor: TVTSProcessor) -> None:
    single = processor(text=["ab", "abcd"])["input_ids"]
    assert single.shape == (2, 6)
    assert torch.equal(processor(text="abcd")["input_ids"], single[1:])
    grouped = processor(text=[["ab", "abcd"], ["abcd", "ab"]])["input_ids"]
    assert torch.equal(grouped, torch.stack([single, single.flip(0)]))
    with pytest.raises(ValueError, match="text: every video needs the same number of texts"):
        processor(text=[["ab"], ["ab", "cd"]])


def test_long_text_is_cut_and_keeps_its_end(processor: TVTSProcessor) -> None:
    ids = processor(text="abcdefghijklmnopqrstuvwxyz")["input_ids"]
    assert ids.shape == (1, 12)
    assert ids[0, -1] == processor.tokenizer.eos_token_id


def test_unknown_pixels_are_refused(processor: TVTSProcessor) -> None:
    with pytest.raises(ValueError, match="pixels: got 'best'; allowed: official, clip"):
        TVTSProcessor(processor.tokenizer, pixels="best")
