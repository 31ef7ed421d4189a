"""Record the demo's phrases with flite. Run once; its output, `demo/phrases/`, is kept in the repository.

Needs `flite` on the PATH with the voices rms, awb and kal16. Each voice becomes one Opus file of all its phrases, one after another,
and `phrases.json` gives the exact text and place of each: `{voice: [{"text", "start", "end"}]}` in seconds.
"""

import json
import subprocess
import tempfile
import wave
from pathlib import Path

import av
import numpy as np
from world import OPENERS, SPOKEN_MOTIONS, SPOKEN_SUBJECTS

RATE = 16000
VOICES = {"rms": 0.82, "awb": 0.92, "kal16": 1.0}  # how far each voice's speech is stretched in time
PAUSE = 0.15  # seconds of silence between phrases in a file
FOLDER = Path(__file__).parent / "phrases"


def phrases() -> list[str]:
    """Every piece that a sentence is assembled from: openers, subjects, motions."""
    subjects = [f"the {subject.name}" for subject in SPOKEN_SUBJECTS]
    return [*OPENERS, *subjects, *(text for texts in SPOKEN_MOTIONS.values() for text in texts)]


def speak(text: str, voice: str, stretch: float) -> np.ndarray:
    """Say a text with flite and cut the silence around it -> int16 [samples] at 16 kHz."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        command = ["flite", "-voice", voice, "--setf", f"duration_stretch={stretch}", "-t", text, "-o", file.name]
        subprocess.run(command, check=True)
        with wave.open(file.name) as sound:
            samples = np.frombuffer(sound.readframes(sound.getnframes()), dtype=np.int16)
    loud = np.flatnonzero(abs(samples.astype(int)) > 200)
    margin = RATE // 50
    return samples[max(0, loud[0] - margin) : loud[-1] + margin]


def write_opus(path: Path, samples: np.ndarray) -> None:
    """Write mono speech (int16, 16 kHz) as Opus."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libopus", rate=RATE, options={"application": "voip"})
        stream.layout = "mono"
        stream.bit_rate = 20000
        sound = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        sound.sample_rate = RATE
        sound.pts = 0
        resampler = av.AudioResampler("s16", "mono", RATE, frame_size=320)
        for part in [*resampler.resample(sound), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode())


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    index = {}
    silence = np.zeros(int(PAUSE * RATE), np.int16)
    for voice, stretch in VOICES.items():
        entries, parts, position = [], [silence], len(silence)
        for text in phrases():
            samples = speak(text, voice, stretch)
            entries.append({"text": text, "start": position / RATE, "end": (position + len(samples)) / RATE})
            parts += [samples, silence]
            position += len(samples) + len(silence)
        write_opus(FOLDER / f"{voice}.opus", np.concatenate(parts))
        index[voice] = entries
        print(f"{voice}: {len(entries)} phrases, {position / RATE:.0f} s")
    (FOLDER / "phrases.json").write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    main()
