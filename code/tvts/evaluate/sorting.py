"""Transcript sorting on a dataset's fixed validation windows: does the model see the order of events?"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
