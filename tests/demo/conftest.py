"""The demo's programs import each other by name, as `python demo/narrated.py` does."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "demo"))
