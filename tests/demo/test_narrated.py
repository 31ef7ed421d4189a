"""The narrated corpus: real files, a true script, speech that the project's own recogniser understands."""

import csv
import json
from itertools import pairwise

import av
import numpy as np
import pytest
from narrated import EVENT_SECONDS, FPS, RATE, Voice, make_corpus
from record_phrases import FOLDER, VOICES, phrases
from world import SILENT_COLOURS, SILENT_SHAPES


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    make_corpus(3, 0, folder)
    return folder


def test_every_phrase_is_recorded_in_every_voice():
    index = json.loads((FOLDER / "phrases.json").read_text())
    assert set(index) == set(VOICES)
    for name in index:
        voice = Voice(name)
        assert sorted(voice.phrases) == sorted(phrases())
        assert all(abs(said.astype(int)).max() > 1000 for said in voice.phrases.values())


def test_recordings_are_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1_000_000


def test_list_and_script_agree_with_the_files(corpus):
    script = json.loads((corpus / "script.json").read_text())
    with open(corpus / "urls.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["demo-0001", "demo-0002", "demo-0003"] == list(script)
    for row in rows:
        assert row["url"].startswith("file://")
        events = script[row["id"]]["events"]
        assert 4 <= len(events) <= 6
        with av.open(row["url"].removeprefix("file://")) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
            assert sum(1 for _ in container.decode(video=0)) == len(events) * EVENT_SECONDS * FPS
            assert float(audio.duration * audio.time_base) == pytest.approx(events[-1]["end"], abs=0.2)


def test_consecutive_events_differ_and_silent_concepts_stay_silent(corpus):
    script = json.loads((corpus / "script.json").read_text())
    for video in script.values():
        told = [(event["colour"], event["shape"], event["motion"]) for event in video["events"]]
        assert all(one != other for one, other in pairwise(told))
        words = {word for event in video["events"] for word in event["text"].split()}
        assert not words & {*SILENT_COLOURS, *SILENT_SHAPES}


def test_same_seed_same_bytes(corpus, tmp_path):
    make_corpus(1, 0, tmp_path)
    name = "videos/demo-0001.mp4"
    assert (tmp_path / name).read_bytes() == (corpus / name).read_bytes()


def test_pocketsphinx_understands_a_recorded_sentence():
    pocketsphinx = pytest.importorskip("pocketsphinx")
    decoder = pocketsphinx.Decoder(samprate=RATE, loglevel="FATAL", maxhmmpf=1500, fwdflat=False, bestpath=False)
    said = Voice("rms").say(("okay so now", "the red circle", "slides over to the left"))
    silence = np.zeros(RATE // 4, np.int16)
    decoder.start_utt()
    decoder.process_raw(np.concatenate([silence, said, silence]).tobytes(), full_utt=True)
    decoder.end_utt()
    assert decoder.hyp().hypstr == "okay so now the red circle slides over to the left"
