"""Embedding real (tiny) videos with real (tiny) models and scoring them, over the files alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.evaluate.conftest import FRAMES, make_videos
from torch.nn import functional as F
from transformers import CLIPModel

from tvts.config import Benchmark, Evaluation, UserError
from tvts.evaluate.embed import embed
from tvts.evaluate.encoders import clean_text, load_encoder
from tvts.evaluate.features import read_features
from tvts.evaluate.pixels import Preset, load_video, to_batch
from tvts.evaluate.score import score
from tvts.files import read_json
from tvts.model import TVTSModel, TVTSProcessor

Make = Callable[..., Benchmark]
EVALUATION = Evaluation(device="cpu", batch_size=3)
PROTOCOLS = ["retrieval", "recognition", "linear_probe", "multiple_choice"]


@pytest.fixture
def table(tmp_path: Path, bench: Make) -> Benchmark:
    """Seven videos with a text, a label, options and a tag; six to train a probe on."""
    videos = tmp_path / "videos"
    make_videos(videos, [f"{i}.mp4" for i in range(7)])
    make_videos(videos, [f"t{i}.mp4" for i in range(6)], count=3)
    folder = tmp_path / "t"
    folder.mkdir()
    rows = [
        f'{i}.mp4,thing {"abcdefg"[i]},{i % 2},"[""up"", ""down""]",{i % 2},{"seen" if i < 4 else "unseen"}'
        for i in range(7)
    ]
    (folder / "test.csv").write_text("\n".join(["path,text,label,options,answer,concepts", *rows]))
    (folder / "train.csv").write_text("\n".join(["path,label", *(f"t{i}.mp4,{i % 2}" for i in range(6))]))
    (folder / "classes.json").write_text(json.dumps(["spinning", "growing"]))
    return bench("table", "t", PROTOCOLS)


def run_embed(model: Path, kind: Any, benchmark: Benchmark, output: Path, evaluation: Evaluation = EVALUATION) -> Path:
    embed(model, kind, benchmark, evaluation, FRAMES, "pyav", output, log=lambda line: None)
    return output


@pytest.mark.parametrize("kind", ["tvts", "clip"])
def test_every_protocol_from_video_files_to_scores(
    kind: str, table: Benchmark, clip_folder: Path, tvts_folder: Path, tmp_path: Path
) -> None:
    model = tvts_folder if kind == "tvts" else clip_folder
    output = run_embed(model, kind, table, tmp_path / "embeddings/some-run/mine.safetensors")
    for protocol, metric in (
        ("retrieval", "t2v_R@1[concepts=unseen]"), ("recognition", "top1"), ("linear_probe", "top1"), ("multiple_choice", "top1"),
    ):  # fmt: skip
        path = tmp_path / f"scores/some-run/mine.{protocol}.json"
        score(output, protocol, EVALUATION, path)
        body = read_json(path)
        assert (body["run"], body["benchmark"], body["protocol"]) == ("some-run", "mine", protocol)
        assert 0 <= body["metrics"][metric] <= 100
        assert body["coverage"]["items"] == body["coverage"]["used"] == 7
        assert body["policy"]["pixels"].startswith("official: 4 segment middles, short side 38 nearest")


def test_video_features_are_those_of_the_model(table: Benchmark, tvts_folder: Path, tmp_path: Path) -> None:
    features = read_features(run_embed(tvts_folder, "tvts", table, tmp_path / "e/r/b.safetensors"))
    model, processor = TVTSModel.from_pretrained(tvts_folder).eval(), TVTSProcessor.from_pretrained(tvts_folder)
    preset = Preset("official", 32, FRAMES, "pyav")
    with torch.inference_mode():
        pixels, _ = to_batch([load_video(Path(table.videos) / "5.mp4", preset)], preset, torch.device("cpu"))
        assert torch.allclose(features["video"][5], model.get_video_features(pixels)[0], atol=1e-5)
        text = model.get_text_features(processor(text="thing f")["input_ids"])[0]
        assert torch.allclose(features["text"][5], text, atol=1e-5)


def test_clip_baseline_is_the_mean_over_real_frames(table: Benchmark, clip_folder: Path, tmp_path: Path) -> None:
    features = read_features(run_embed(clip_folder, "clip", table, tmp_path / "e/r/b.safetensors"))
    clip = CLIPModel.from_pretrained(clip_folder).eval()
    preset = Preset("official", 32, FRAMES, "pyav")
    pixels, real = to_batch([load_video(Path(table.videos) / "t2.mp4", preset)], preset, torch.device("cpu"))
    assert real.sum() == 3
    with torch.inference_mode():
        frames = F.normalize(clip.get_image_features(pixels[0, :3]).pooler_output, dim=-1)
    assert torch.allclose(features["train_video"][2], frames.mean(0), atol=1e-5)


def test_class_prompts_are_averaged_over_templates(table: Benchmark, tvts_folder: Path, tmp_path: Path) -> None:
    several = table.model_copy(update={"options": {"prompts": ["a person {}", "{}!"]}})
    features = read_features(run_embed(tvts_folder, "tvts", several, tmp_path / "e/r/b.safetensors"))
    encoder = load_encoder(tvts_folder, "tvts", FRAMES, torch.device("cpu"))
    with torch.inference_mode():
        one = F.normalize(encoder.text(["a person growing", "growing!"]), dim=-1).mean(0)
    assert torch.allclose(features["class_text"][1], F.normalize(one, dim=-1), atol=1e-5)
    assert features.about["prompts"] == ["a person {}", "{}!"]


def test_the_same_inputs_give_the_same_bytes(table: Benchmark, tvts_folder: Path, tmp_path: Path) -> None:
    first = run_embed(tvts_folder, "tvts", table, tmp_path / "a/r/b.safetensors")
    second = run_embed(tvts_folder, "tvts", table, tmp_path / "c/r/b.safetensors")
    assert first.read_bytes() == second.read_bytes()


def test_both_readers_give_the_same_features(table: Benchmark, tvts_folder: Path, tmp_path: Path) -> None:
    pyav = read_features(run_embed(tvts_folder, "tvts", table, tmp_path / "p/b.safetensors"))
    embed(
        tvts_folder, "tvts", table, EVALUATION, FRAMES, "decord", tmp_path / "d/b.safetensors", log=lambda line: None
    )  # fmt: skip
    assert torch.equal(pyav["video"], read_features(tmp_path / "d/b.safetensors")["video"])


@pytest.mark.parametrize("pixels", ["official", "clip"])
def test_the_pixel_preset_reaches_the_features(
    pixels: Any, table: Benchmark, tvts_folder: Path, tmp_path: Path
) -> None:
    evaluation = EVALUATION.model_copy(update={"pixels": pixels})
    features = read_features(run_embed(tvts_folder, "tvts", table, tmp_path / "e/b.safetensors", evaluation))
    preset = Preset(pixels, 32, FRAMES, "pyav")
    assert features.about["pixels"] == preset.describe()
    with torch.inference_mode():
        frames, _ = to_batch([load_video(Path(table.videos) / "3.mp4", preset)], preset, torch.device("cpu"))
        expected = TVTSModel.from_pretrained(tvts_folder).eval().get_video_features(frames)[0]
    assert torch.allclose(features["video"][3], expected, atol=1e-5)


def test_missing_videos_are_counted_and_too_many_refused(table: Benchmark, tvts_folder: Path, tmp_path: Path) -> None:
    (Path(table.videos) / "1.mp4").unlink()
    (Path(table.videos) / "2.mp4").write_bytes(b"broken" * 50)
    (Path(table.videos) / "t1.mp4").unlink()
    tolerant = EVALUATION.model_copy(update={"max_missing_share": 0.5})
    output = run_embed(tvts_folder, "tvts", table, tmp_path / "e/r/b.safetensors", tolerant)
    features = read_features(output)
    assert features.about["coverage"] == {"items": 7, "used": 5, "missing": 1, "substituted": 1}
    assert len(features["train_video"]) == len(features["train_label"]) == 5
    score(output, "linear_probe", tolerant, tmp_path / "s.json")
    assert read_json(tmp_path / "s.json")["coverage"] == {
        "items": 7, "used": 5, "missing": 1, "substituted": 1,
        "train_items": 6, "train_used": 5, "train_missing": 1, "train_substituted": 0,
    }  # fmt: skip
    with pytest.raises(UserError, match=r"1 of 7 are missing and 0 unreadable, the first is .*1\.mp4; .* allows 5%"):
        run_embed(tvts_folder, "tvts", table, tmp_path / "no/no.safetensors")
    assert not (tmp_path / "no").exists()  # files that are not there are told before anything is encoded
    strict = EVALUATION.model_copy(update={"max_missing_share": 0.2})
    with pytest.raises(UserError, match=r"1 of 7 are missing and 1 unreadable, the first is .*1\.mp4; .* allows 20%"):
        run_embed(tvts_folder, "tvts", table, tmp_path / "no/no.safetensors", strict)
    assert not (tmp_path / "no/no.safetensors").exists()


def test_several_texts_of_one_video(tmp_path: Path, bench: Make, tvts_folder: Path) -> None:
    make_videos(tmp_path / "videos", ["a.mp4", "b.mp4"])
    (tmp_path / "t").mkdir()
    (tmp_path / "t/test.csv").write_text("path,text\na.mp4,one\nb.mp4,two\na.mp4,three\n")
    features = read_features(
        run_embed(tvts_folder, "tvts", bench("table", "t", ["retrieval"]), tmp_path / "e.safetensors")
    )
    assert features["video"].shape[0] == 2
    assert features["video_row"].tolist() == [0, 1, 0]


def test_what_people_are_told(table: Benchmark, clip_folder: Path, tvts_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a tvts model folder"):
        run_embed(clip_folder, "tvts", table, tmp_path / "e.safetensors")
    with pytest.raises(UserError, match="up to 4 frames, 12 were asked for"):
        embed(tvts_folder, "tvts", table, EVALUATION, 12, "pyav", tmp_path / "e.safetensors")
    with pytest.raises(UserError, match="no such features"):
        score(tmp_path / "absent.safetensors", "retrieval", EVALUATION, tmp_path / "s.json")
    only = table.model_copy(update={"protocols": ["retrieval"]})
    output = run_embed(clip_folder, "clip", only, tmp_path / "e.safetensors")
    with pytest.raises(UserError, match=r"no tensor 'train_video'; found .* list this protocol"):
        score(output, "linear_probe", EVALUATION, tmp_path / "s.json")
    with pytest.raises(UserError, match="'nope': unknown; known: retrieval"):
        score(output, "nope", EVALUATION, tmp_path / "s.json")
    (tmp_path / "broken.safetensors").write_bytes(b"12345678")
    with pytest.raises(UserError, match="not a features file"):
        score(tmp_path / "broken.safetensors", "retrieval", EVALUATION, tmp_path / "s.json")


def test_texts_are_cleaned_as_clip_does() -> None:
    assert clean_text(" It&amp;#39;s a cafÃ© ") == "It's a café"
