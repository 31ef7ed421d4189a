"""OpenAI's Whisper from a local checkpoint file. A clip is one input window, so clips are decoded in batches; greedy, so repeatable."""

import base64
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import torch
import whisper
from whisper.audio import HOP_LENGTH, N_SAMPLES
from whisper.decoding import DecodingResult
from whisper.model import ModelDimensions
from whisper.timing import find_alignment, merge_punctuations
from whisper.tokenizer import get_tokenizer

from tvts.config import Transcribe, UserError
from tvts.corpus.transcribe.engine import Listener, Transcript, doubts, failure, no_speech
from tvts.corpus.transcripts import Word, word
from tvts.files import sha256_file

_OPENING, _CLOSING = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"


class Whisper(Listener):
    """Batched decoding at temperature 0 without timestamp tokens; words timed by cross-attention and dynamic time warping.

    `transcribe.options` are Whisper's `DecodingOptions` (such as `beam_size`).
    """

    def __init__(self, settings: Transcribe, threads: int):
        super().__init__(settings.batch_size, threads)
        if settings.model is None or not Path(settings.model).is_file():
            raise UserError(
                f"transcribe.model: got {settings.model!r}; whisper needs the path of a checkpoint file (nothing is downloaded)"
            )
        self.path, self.model = settings.model, sha256_file(settings.model)
        self.device = settings.device if settings.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        self.settings, self.language = settings, settings.language
        if settings.precision == "int8":
            raise UserError("transcribe.precision: int8 is for faster_whisper; whisper takes auto, fp16 or fp32")
        self.whisper: Any = None

    def load(self) -> None:
        """As `Listener.load`. Raises `UserError` for options that Whisper does not know."""
        if self.whisper is None:
            self.whisper = _load(self.path, self.model, self.device)
            self.options = self._options()

    def _options(self) -> whisper.DecodingOptions:
        given, precision = self.settings.options, self.settings.precision
        half = precision == "fp16" or (precision == "auto" and self.device == "cuda")
        standard = {"language": self.language, "without_timestamps": True, "fp16": half}
        try:
            options = whisper.DecodingOptions(**standard, **given)
            get_tokenizer(self.whisper.is_multilingual, language=self.language)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"transcribe.language, transcribe.options: Whisper refuses {self.language!r}, {given}: {error}"
            ) from error
        return options

    @torch.inference_mode()
    def recognise(self, sounds: list[np.ndarray]) -> list[Transcript]:
        """One transcript per sound (float32 [samples], 16 kHz, at most 30 s)."""
        try:
            results, languages = self._decode(sounds)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"transcribe.batch_size: {self.batch_size} clips do not fit on {self.device}; take fewer"
            ) from error
        return [self._transcript(*each) for each in zip(sounds, results, languages, strict=True)]

    def _decode(self, sounds: list[np.ndarray]) -> tuple[list[DecodingResult], list[dict[str, float]]]:
        """What Whisper reads in each sound, and the probability of each language (none for English-only models)."""
        padded = torch.stack([whisper.pad_or_trim(torch.from_numpy(sound), N_SAMPLES) for sound in sounds])
        mels = whisper.log_mel_spectrogram(padded.to(self.device), self.whisper.dims.n_mels)
        features = self.whisper.embed_audio(mels.half() if self.options.fp16 else mels)
        if self.whisper.is_multilingual:
            _, languages = self.whisper.detect_language(features)
        else:
            languages = [{}] * len(sounds)
        return self.whisper.decode(features, self.options), languages

    def _transcript(self, sound: np.ndarray, result: DecodingResult, languages: dict[str, float]) -> Transcript:
        if no_speech(result.no_speech_prob, result.avg_logprob):
            message = f"no speech, p = {result.no_speech_prob:.2f}"
            return Transcript(language=result.language, status="no_speech", message=message)
        flags = doubts(result.compression_ratio, result.avg_logprob, languages, self.language, result.language)
        try:
            words = self._timed(sound, result)
        except Exception as error:
            return failure(error)
        return Transcript(words, result.language, flags)

    def _timed(self, sound: np.ndarray, result: DecodingResult) -> list[Word]:
        tokenizer = get_tokenizer(
            self.whisper.is_multilingual,
            num_languages=self.whisper.num_languages,
            language=result.language,
            task="transcribe",
        )
        text = [token for token in result.tokens if token < tokenizer.eot]
        frames = len(sound) // HOP_LENGTH
        timings = find_alignment(_Decoder(self.whisper), tokenizer, text, result.audio_features, frames)
        merge_punctuations(timings, _OPENING, _CLOSING)
        return [
            word(part.word.strip(), part.start, part.end, float(part.probability))
            for part in timings
            if part.word.strip()
        ]


class _Decoder:
    """Whisper's decoder in the place of the whole model: `find_alignment` is given the encoded audio instead of encoding it again."""

    def __init__(self, model: whisper.Whisper):
        self.decoder, self.alignment_heads = model.decoder, model.alignment_heads
        self.dims, self.device = model.dims, model.device

    def __call__(self, features: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return self.decoder(tokens, features)


def _load(path: str, sha256: str, device: str) -> whisper.Whisper:
    """The model in `path`, with the heads that time words: a checkpoint given by its path does not carry them."""
    try:
        model = whisper.load_model(path, device=device)
    except (RuntimeError, KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(f"transcribe.model: {path} is not a Whisper checkpoint: {error}") from error
    heads = alignment_heads(Path(path).stem, sha256, model.dims)
    if heads is not None:
        model.set_alignment_heads(heads)
    return model.eval()


def alignment_heads(name: str, sha256: str, dims: ModelDimensions) -> bytes | None:
    """Whisper's own table entry for a checkpoint: found by its hash, else by its file name if the sizes agree; none for others."""
    by_hash = [known for known, url in whisper._MODELS.items() if url.split("/")[-2] == sha256]
    entry = whisper._ALIGNMENT_HEADS.get(by_hash[0] if by_hash else name)
    if entry is None or len(gzip.decompress(base64.b85decode(entry))) != dims.n_text_layer * dims.n_text_head:
        return None
    return entry
