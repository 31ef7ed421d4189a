"""Captioned stills in the descriptive register: what the stand-in CLIP learns from, as CLIP learned from the web."""

import numpy as np
from world import SUBJECTS, Subject, draw, random_background

# Words of place and size are part of the captions; words of motion are not, since stills show none.
PLACES = {
    "on the left": (0.33, 0.5),
    "on the right": (0.68, 0.5),
    "at the top": (0.5, 0.32),
    "at the bottom": (0.5, 0.68),
    "in the middle": (0.5, 0.5),
}
SIZES = {"small": 0.15, "": 0.21, "big": 0.29}
KINDS = ("", "a photo of ", "a picture of ", "a drawing of ")


def caption(subject: Subject, size: str, place: str, kind: str) -> str:
    """`a photo of a big red circle on the left`."""
    words = " ".join(word for word in (size, subject.name, place) if word)
    return f"{kind}{'an' if words[0] in 'aeiou' else 'a'} {words}"


def draw_stills(count: int, pixels: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """Draw captioned stills -> uint8 [count, pixels, pixels, 3] and their captions. Subjects take turns;
    four of five captions name the place."""
    rng = np.random.default_rng(seed)
    images = np.empty((count, pixels, pixels, 3), np.uint8)
    captions = []
    for index in range(count):
        subject = SUBJECTS[index % len(SUBJECTS)]
        size, place = (list(words)[rng.integers(len(words))] for words in (SIZES, PLACES))
        x, y = PLACES[place] + rng.uniform(-0.06, 0.06, 2)
        radius = SIZES[size] * rng.uniform(0.9, 1.1)
        images[index] = draw(pixels, subject, [x], [y], [radius], random_background(rng))[0]
        named = {"size": size, "place": place if rng.random() < 0.8 else ""}
        captions.append(caption(subject, kind=KINDS[rng.integers(len(KINDS))], **named))
    return images, captions
