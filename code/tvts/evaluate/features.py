"""The file of frozen features: tensors, and what they are features of."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tvts.config import UserError
from tvts.files import atomic

KEY = "tvts"


@dataclass(frozen=True)
class Features:
    """Tensors by name (float32 features are not normalised) and metadata: ids, tags, coverage, model, pixels,
    classes, prompts.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    about: Mapping[str, Any]

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise UserError(
                f"{self.path}: no tensor {name!r}; found {', '.join(self.tensors)}; "
                "list this protocol in the benchmark's protocols and embed again"
            )
        return self.tensors[name]


def write_features(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write features atomically; equal content gives equal bytes."""
    with atomic(path) as temporary:
        metadata = {KEY: json.dumps(about, sort_keys=True, ensure_ascii=False)}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata)


def read_features(path: Path) -> Features:
    """Read what `write_features` wrote. Raises UserError if the file is absent or something else."""
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})[KEY])
            return Features(path, {name: file.get_tensor(name) for name in file.keys()}, about)  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path}: no such features; run `tvts embed-benchmark` first") from None
    except (SafetensorError, KeyError) as error:
        raise UserError(
            f"{path}: not a features file ({error}); delete it and run `tvts embed-benchmark` again"
        ) from None
