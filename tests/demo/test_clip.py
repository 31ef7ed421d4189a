"""The stand-in CLIP is a CLIP folder like any other."""

import sys

import clip
import pytest
from transformers import AutoTokenizer, CLIPModel

from tvts.model import from_clip


def test_tokenizer_knows_the_words_of_both_registers():
    tokenizer = clip.train_tokenizer()
    for text in ("okay so now the red circle slides over to the left", "a photo of a big cyan moon on the right"):
        assert tokenizer.tokenize(text) == [f"{word}</w>" for word in text.split()]
    assert tokenizer.decode(tokenizer("quite unheard of").input_ids, skip_special_tokens=True) == "quite unheard of"


def test_saved_folder_loads_as_clip_and_as_tvts(tmp_path, monkeypatch):
    monkeypatch.setattr(clip, "STILLS", 64)
    monkeypatch.setattr(
        sys, "argv", ["clip.py", "--output", str(tmp_path), "--steps", "20", "--batch", "16", "--threads", "1"]
    )
    clip.main()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer(["a red star"], return_tensors="pt").input_ids
    expected = CLIPModel.from_pretrained(tmp_path).get_text_features(ids).pooler_output
    actual = from_clip(tmp_path).get_text_features(ids)
    assert actual.detach().numpy() == pytest.approx(expected.detach().numpy(), abs=1e-5)
