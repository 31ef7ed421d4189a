"""PocketSphinx: small, offline, CPU. Its wheel carries an English model, which the demo uses."""

import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np
import pocketsphinx

from tvts.config import Transcribe, UserError
from tvts.corpus.transcribe.engine import RATE, Clip, Transcript, failure, hear
from tvts.corpus.transcripts import Word, word
from tvts.files import sha256_file, sha256_json

_FILLER = re.compile(r"<.*>|\[.*\]|\+\+.*\+\+")
_ALTERNATIVE = re.compile(r"\(\d+\)$")
_decoder: pocketsphinx.Decoder


class PocketSphinx:
    """One decoder per process, `threads` processes. `transcribe.options` are its parameters (`lm`, `dict`, `beam`, `maxhmmpf`, ...)."""

    def __init__(self, settings: Transcribe, threads: int):
        self.language = settings.language
        self.threads = threads
        self.options = {**settings.options, **({"hmm": settings.model} if settings.model else {})}
        _start(self.options)
        self.model = _model_sha256()

    def transcribe(self, clips: Sequence[Clip]) -> Iterator[Transcript]:
        processes = min(self.threads, len(clips))
        if processes <= 1:
            found: Iterator[Transcript] = map(_recognise, clips)
            yield from (self._in_language(transcript) for transcript in found)
            return
        with ProcessPoolExecutor(processes, get_context("spawn"), _start_process, (self.options,)) as pool:
            yield from (self._in_language(transcript) for transcript in pool.map(_recognise, clips))

    def _in_language(self, transcript: Transcript) -> Transcript:
        transcript.language = self.language
        return transcript


def _start_process(options: dict) -> None:
    """Begin a process of the pool; it ends with the job, also when the job is killed (the pool's processes would wait for ever)."""
    job = parent_process()
    assert job is not None

    def follow() -> None:
        job.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    _start(options)


def _start(options: dict) -> None:
    """Make this process's decoder. Raises UserError for unknown parameters and missing model files."""
    global _decoder
    try:
        _decoder = pocketsphinx.Decoder(**{"samprate": RATE, "loglevel": "FATAL", **options})
    except (KeyError, RuntimeError, ValueError) as error:
        raise UserError(f"transcribe.options: PocketSphinx refuses {options}: {error}") from error


def _model_sha256() -> str:
    """One hash over the files the decoder has loaded: acoustic model, dictionary, language model."""
    roots = [Path(path) for name in ("hmm", "dict", "lm", "jsgf", "fsg") if (path := _decoder.config[name])]
    files = [file for root in roots for file in (sorted(root.iterdir()) if root.is_dir() else [root])]
    return sha256_json([[file.name, sha256_file(file)] for file in files])


def _recognise(clip: Clip) -> Transcript:
    begun = time.perf_counter()
    heard = hear(clip)
    if isinstance(heard, np.ndarray):
        try:
            heard = Transcript(recognise(heard))
        except Exception as error:
            heard = failure(error)
    heard.seconds = time.perf_counter() - begun
    return heard


def recognise(sound: np.ndarray) -> list[Word]:
    """Words of `sound` (float32 [samples], 16 kHz). Its statistics of noise start afresh: the result does not depend on other clips."""
    samples = (np.clip(sound, -1, 1) * 32767).astype("<i2")
    _decoder.reinit_feat(None)
    _decoder.start_utt()
    _decoder.process_raw(samples.tobytes(), full_utt=True)
    _decoder.end_utt()
    rate, belief = _decoder.config["frate"], _decoder.get_logmath()
    return [
        word(
            _ALTERNATIVE.sub("", part.word),
            part.start_frame / rate,
            (part.end_frame + 1) / rate,
            min(1.0, belief.exp(part.prob)),
        )
        for part in _decoder.seg() or ()
        if not _FILLER.fullmatch(part.word)
    ]
