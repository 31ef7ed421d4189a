"""Subsets of a benchmark's items that share the value of a tag, such as `concepts=unseen`."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

MOST_VALUES = 20
"""A tag with more values than this names items, not subsets, and is not reported."""


def subsets(tags: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, Tensor]]:
    """(`tag=value`, indices of the items that carry it) in order of tag and value."""
    for name in sorted({name for item in tags for name in item}):
        values = sorted({item[name] for item in tags if name in item})
        if len(values) <= MOST_VALUES:
            for value in values:
                yield f"{name}={value}", torch.tensor([i for i, item in enumerate(tags) if item.get(name) == value])
