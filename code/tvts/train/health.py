"""Does training still learn? A loss or gradient that is no number, or a loss far above guessing, ends it with the step's clips named."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tvts.config import UserError
from tvts.config.schema import Objective
from tvts.files import write_json
from tvts.objectives import chance_loss
from tvts.train.distributed import Process, everyone, gather

DIVERGED = 3.0
"""Times the loss of guessing."""


class Health:
    """Looks at all steps since the last look at once, so that no single step waits for the device."""

    def __init__(
        self, process: Process, objective: Objective, clips: int, transcripts: int, sources: int, folder: Path
    ) -> None:
        """`clips` per contrast, `transcripts` to sort and `sources` in a step give the loss of guessing; `folder` gets the finding."""
        self.process, self.folder = process, folder
        weights = objective.contrastive_weight, objective.sorting_weight
        self.limit = DIVERGED * sources * chance_loss(clips, transcripts, *weights)
        self.steps: list[tuple[int, Tensor, list[str]]] = []

    def add(self, step: int, loss: Tensor, gradient_norm: Tensor, keys: list[str]) -> None:
        """Note a step with the keys of this process's clips."""
        self.steps.append((step, torch.stack([loss.float(), gradient_norm.float()]), keys))

    def check(self) -> None:
        """Raise UserError, in every process, when a step since the last check went wrong; `diverged.json` then names it."""
        if not self.steps:
            return
        values = everyone(self.process, torch.stack([values for _, values, _ in self.steps])).cpu()
        broken = ~values.isfinite().all(2).all(0)
        if broken.any():
            self._report(int(broken.int().argmax()), values, "the loss or its gradient is no longer a number")
        if values[..., 0].mean() > self.limit:
            worst = int(values[..., 0].mean(0).argmax())
            self._report(worst, values, f"the loss is above {self.limit:.1f}, {DIVERGED:g} times that of guessing")
        self.steps.clear()

    def _report(self, index: int, values: Tensor, what: str) -> None:
        step, _, mine = self.steps[index]
        keys = gather(self.process, mine)
        found: dict[str, Any] = {
            "step": step,
            "what": what,
            "processes": [
                {"loss": str(loss), "gradient_norm": str(norm), "clips": clips}
                for (loss, norm), clips in zip(values[:, index].tolist(), keys, strict=True)
            ],
        }
        path = self.folder / "diverged.json"
        if self.process.leads:
            write_json(path, found)
        raise UserError(
            f"step {step}: {what}; its clips are in {path}; lower optim.lr_new and optim.lr_clip, set optim.clip_gradient or "
            "optim.warmup_steps"
        )
