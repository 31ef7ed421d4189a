"""The demo's little world: what can be seen (coloured shapes in motion) and the two registers in which it is put into words.

The narrated corpus shows and speaks only the *spoken* half of the colours and shapes. The captioned stills, from which the stand-in
CLIP learns, show all of them; so some concepts are known from CLIP alone, and forgetting them is what distortion means here.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

SPOKEN_COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 80, 230), "yellow": (235, 220, 50)}
SILENT_COLOURS = {"orange": (240, 140, 30), "purple": (150, 50, 190), "white": (245, 245, 245), "cyan": (50, 210, 220)}
COLOURS = SPOKEN_COLOURS | SILENT_COLOURS

SPOKEN_SHAPES = ("circle", "square", "triangle", "diamond")
SILENT_SHAPES = ("cross", "star", "ring", "moon")
SHAPES = SPOKEN_SHAPES + SILENT_SHAPES

# Each motion is another one played backwards: a single frame cannot tell them apart.
MOTIONS = ("left", "right", "up", "down", "grow", "shrink")

SPOKEN_MOTIONS = {
    "left": ("slides over to the left", "is going to move to the left", "goes off to the left"),
    "right": ("slides over to the right", "is going to move to the right", "goes off to the right"),
    "up": ("floats up to the top", "is going to move up", "climbs up to the top"),
    "down": ("drops down to the bottom", "is going to move down", "comes down to the bottom"),
    "grow": ("gets bigger and bigger", "is getting really big", "is growing bigger"),
    "shrink": ("gets smaller and smaller", "is getting really small", "is growing smaller"),
}
OPENERS = ("okay so now", "and then", "all right", "so now", "okay")

DESCRIBED_MOTIONS = {
    "left": "moving left",
    "right": "moving right",
    "up": "moving up",
    "down": "moving down",
    "grow": "getting big",
    "shrink": "getting small",
}


@dataclass(frozen=True)
class Subject:
    """A coloured shape."""

    colour: str
    shape: str

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"


SPOKEN_SUBJECTS = [Subject(*pair) for pair in product(SPOKEN_COLOURS, SPOKEN_SHAPES)]
SUBJECTS = [Subject(*pair) for pair in product(COLOURS, SHAPES)]


def is_spoken(subject: Subject) -> bool:
    """True if the narrated corpus shows and speaks both the colour and the shape."""
    return subject.colour in SPOKEN_COLOURS and subject.shape in SPOKEN_SHAPES


def describe(subject: Subject, motion: str) -> str:
    """The descriptive register: `a red circle moving left`."""
    article = "an" if subject.colour[0] in "aeiou" else "a"
    return f"{article} {subject.name} {DESCRIBED_MOTIONS[motion]}"


def _outline(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Distance-like field of a shape of about unit radius: negative inside. `v` grows downwards."""
    radius = np.hypot(u, v)
    match shape:
        case "circle":
            return radius - 0.95
        case "square":
            return np.maximum(abs(u), abs(v)) - 0.82
        case "triangle":
            return np.maximum(0.866 * abs(u) - 0.5 * v, v) - 0.62
        case "star":
            fifth = 2 * np.pi / 5
            angle = abs((np.arctan2(u, -v) + fifth / 2) % fifth - fifth / 2)
            tip, notch = np.array([1.2, 0.0]), 0.5 * np.array([np.cos(fifth / 2), np.sin(fifth / 2)])
            along = notch - tip
            normal = np.array([-along[1], along[0]]) / np.hypot(*along)
            return -((radius * np.cos(angle) - tip[0]) * normal[0] + radius * np.sin(angle) * normal[1])
        case "cross":
            return np.minimum(np.maximum(abs(u) - 1.0, abs(v) - 0.33), np.maximum(abs(u) - 0.33, abs(v) - 1.0))
        case "diamond":
            return (abs(u) / 0.75 + abs(v) / 1.2 - 1) * 0.64
        case "ring":
            return abs(radius - 0.75) - 0.24
        case "moon":
            return np.maximum(radius - 1.0, 0.85 - np.hypot(u - 0.55, v))
    raise ValueError(f"unknown shape {shape!r}; known: {', '.join(SHAPES)}")


def draw(
    size: int, subject: Subject, x: np.ndarray, y: np.ndarray, radius: np.ndarray, background: np.ndarray
) -> np.ndarray:
    """Draw a subject in n frames.

    `x`, `y`, `radius` [n]: place and size as shares of the frame (y downwards); `background` RGB [3] -> uint8 [n, size, size, 3].
    """
    grid = (np.arange(size) + 0.5) / size
    place = (np.asarray(value, float)[:, None, None] for value in (x, y, radius))
    centre_x, centre_y, scale = place
    field = _outline(subject.shape, (grid[None, None, :] - centre_x) / scale, (grid[None, :, None] - centre_y) / scale)
    cover = np.clip(0.5 - field * scale * size, 0, 1)[..., None]
    return np.rint(background * (1 - cover) + np.array(COLOURS[subject.colour]) * cover).astype(np.uint8)


def random_background(rng: np.random.Generator) -> np.ndarray:
    """A dull dark colour, RGB [3]."""
    return rng.uniform(20, 90) + rng.uniform(-12, 12, 3)


def play(
    size: int, subject: Subject, motion: str, progress: np.ndarray, rng: np.random.Generator, background: np.ndarray
) -> np.ndarray:
    """Show one motion from `progress` 0 to 1 [n] -> uint8 [n, size, size, 3]; path and sizes are drawn from `rng`.

    A motion and its reverse pass through the same frames, so that no single frame tells one from the other.
    """
    swing = np.clip(progress, 0, 1) - 0.5
    if motion in ("left", "up", "shrink"):
        swing = -swing
    still = np.zeros_like(swing)
    x, y = (rng.uniform(0.45, 0.55) + still for _ in range(2))
    radius = rng.uniform(0.18, 0.22) + still
    if motion in ("left", "right"):
        x = x + rng.uniform(0.4, 0.5) * swing
    elif motion in ("up", "down"):
        y = y + rng.uniform(0.4, 0.5) * swing
    else:
        radius = 0.2 * np.exp(rng.uniform(1.0, 1.3) * swing)
    return draw(size, subject, x, y, radius, background)
