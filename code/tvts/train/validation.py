"""How a model in training does on the fixed held-out windows: sorting accuracy and retrieval."""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils.data import Subset

from tvts.train.data import Collate, FixedWindows, loader
from tvts.train.distributed import Process, everyone
from tvts.train.inputs import ToDevice
from tvts.train.step import Autocast

BATCH = 32


@torch.no_grad()
def validate(
    model: nn.Module, fixed: FixedWindows, collate: Collate, to_device: ToDevice, process: Process, autocast: Autocast
) -> dict[str, float]:
    """In percent: text to video R@1 among the windows (`t2v_R@1`; ties share the place) and, for a model with a sorter,
    transcripts put at their place (`sorting`) and windows wholly in order (`sorting_all`). `windows` is their number.

    Each process embeds its part of the windows; all get the same result.
    """
    part = -(-len(fixed) // process.world)
    mine = Subset(fixed, [(process.rank * part + number) % len(fixed) for number in range(part)])
    model.eval()
    rows: list[tuple[Tensor, ...]] = []
    for batch in loader(mine, None, collate, workers=0, batch=BATCH):
        inputs = to_device(batch)
        with autocast():
            output = model(inputs["video"], None, inputs["input_ids"])
        embeds = [normalize(each.float(), dim=-1) for each in (output.text_embeds, output.video_embeds)]
        order = output.order_logits
        rows.append((*embeds, *([order.argmax(-1) == inputs["positions"]] if order is not None else [])))
    model.train()
    text, video, *right = (
        everyone(process, torch.cat(tensors)).flatten(0, 1)[: len(fixed)] for tensors in zip(*rows, strict=True)
    )
    result = {"windows": float(len(fixed)), "t2v_R@1": _recall_at_1(text, video)}
    if right:
        result |= {
            "sorting": 100 * right[0].double().mean().item(),
            "sorting_all": 100 * right[0].all(1).double().mean().item(),
        }
    return result


def _recall_at_1(text: Tensor, video: Tensor) -> float:
    similarity = text @ video.T
    own = similarity.diagonal()[:, None]
    first = (similarity > own).sum(1) == 0
    sharing = (similarity == own).sum(1)
    return 100 * (first / sharing).double().mean().item()
