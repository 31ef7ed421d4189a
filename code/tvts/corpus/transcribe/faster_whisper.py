"""Whisper by faster-whisper (CTranslate2), from a local folder. An optional extra: `pip install 'tvts[faster-whisper]'`."""

from pathlib import Path
from typing import Any

import ctranslate2
import faster_whisper
import numpy as np

from tvts.config import Transcribe, UserError
from tvts.corpus.transcribe.engine import RATE, Listener, Transcript, doubts, no_speech
from tvts.corpus.transcripts import word
from tvts.files import sha256_file

WINDOW_SECONDS = 30
FRAMES_PER_SECOND = 100
COMPUTE_TYPES = {"auto": "default", "fp16": "float16", "fp32": "float32", "int8": "int8"}


class FasterWhisper(Listener):
    """Batched greedy decoding without timestamp tokens, words timed by cross-attention: what `whisper` does, by another library.

    `transcribe.options` are those of `BatchedInferencePipeline.transcribe` (such as `beam_size`).
    """

    def __init__(self, settings: Transcribe, threads: int) -> None:
        super().__init__(settings.batch_size, threads)
        folder = Path(settings.model or "")
        missing = [name for name in ("model.bin", "config.json", "tokenizer.json") if not (folder / name).is_file()]
        if settings.model is None or missing:
            raise UserError(
                f"transcribe.model: got {settings.model!r}; faster_whisper needs a folder written by CTranslate2's converter"
                f" ({missing[0]} is missing; nothing is downloaded)"
            )
        self.model = sha256_file(folder / "model.bin")
        self.settings, self.language = settings, settings.language
        self.whisper: Any = None
        self.options = {"beam_size": 1, "temperature": 0.0, "without_timestamps": True, **settings.options}

    def load(self) -> None:
        """As `Listener.load`."""
        if self.whisper is not None:
            return
        folder, device, precision = self.settings.model, self.settings.device, COMPUTE_TYPES[self.settings.precision]
        try:
            self.whisper = faster_whisper.WhisperModel(
                folder, device=device, compute_type=precision, cpu_threads=self.threads
            )
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"transcribe.model: {folder} cannot be loaded on {device} as {precision}: {error}"
            ) from error

    def recognise(self, sounds: list[np.ndarray]) -> list[Transcript]:
        """As `Listener.recognise`. The batch is given as one recording whose 30 s parts are the clips."""
        recording = np.zeros(len(sounds) * WINDOW_SECONDS * RATE, np.float32)
        for number, sound in enumerate(sounds):
            recording[number * WINDOW_SECONDS * RATE :][: len(sound)] = sound[: WINDOW_SECONDS * RATE]
        starts = [number * WINDOW_SECONDS for number in range(len(sounds))]
        languages = self._languages(sounds)
        try:
            segments, _ = faster_whisper.BatchedInferencePipeline(self.whisper).transcribe(
                recording,
                language=self.language or max(languages[0], key=languages[0].__getitem__, default="en"),
                multilingual=self.language is None and self.whisper.model.is_multilingual,
                clip_timestamps=[
                    {"start": start, "end": start + len(sound) / RATE}
                    for start, sound in zip(starts, sounds, strict=True)
                ],
                batch_size=len(sounds),
                word_timestamps=True,
                **self.options,
            )
            parts: list[list[faster_whisper.transcribe.Segment]] = [[] for _ in sounds]
            for segment in segments:
                parts[segment.seek // (WINDOW_SECONDS * FRAMES_PER_SECOND)].append(segment)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"transcribe.language, transcribe.options: faster-whisper refuses {self.language!r}, {self.options}: {error}"
            ) from error
        return [self._transcript(*each) for each in zip(parts, starts, languages, strict=True)]

    def _languages(self, sounds: list[np.ndarray]) -> list[dict[str, float]]:
        """Probability per language, for each sound; none for English-only models."""
        if not self.whisper.model.is_multilingual:
            return [{} for _ in sounds]
        features = [self.whisper.feature_extractor(sound)[..., :-1] for sound in sounds]
        padded = np.stack([faster_whisper.audio.pad_or_trim(feature) for feature in features])
        found = self.whisper.model.detect_language(ctranslate2.StorageView.from_array(np.ascontiguousarray(padded)))
        return [{token.strip("<|>"): probability for token, probability in ranked} for ranked in found]

    def _transcript(
        self, segments: list["faster_whisper.transcribe.Segment"], start: float, languages: dict[str, float]
    ) -> Transcript:
        """The transcript of one clip. It is doubted if any of its segments is."""
        language = self.language or max(languages, key=languages.__getitem__, default="en")
        spoken = [segment for segment in segments if not no_speech(segment.no_speech_prob, segment.avg_logprob)]
        if segments and not spoken:
            message = f"no speech, p = {segments[0].no_speech_prob:.2f}"
            return Transcript(language=language, status="no_speech", message=message)
        words = [
            word(part.word.strip(), float(part.start) - start, float(part.end) - start, float(part.probability))
            for segment in spoken
            for part in segment.words or ()
            if part.word.strip()
        ]
        fired = [
            doubts(segment.compression_ratio, segment.avg_logprob, languages, self.language, language)
            for segment in spoken
        ]
        return Transcript(words, language, sorted({flag for flags in fired for flag in flags}))
