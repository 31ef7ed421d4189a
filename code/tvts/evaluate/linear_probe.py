"""Linear probe: softmax regression on frozen features, its learning rate and decay chosen on held-out training data.

TVTSv2's own recipe is unreleased (protocol 3.1), so this is a documented substitute: one clip per video, no
augmentation; features are standardised per dimension with the training set's statistics (what InternVideo2's batch
norm does); AdamW, cosine to zero. All candidates of the sweep are trained in one pass as a batch of heads; the best
on a fifth of the training videos is trained again on all of them. The test set is read once, at the end.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from tvts.config import Evaluation
from tvts.evaluate.features import Features
from tvts.evaluate.recognition import RULES, classification
from tvts.evaluate.result import Result

RATES = (1e-3, 3e-3, 1e-2, 3e-2)
DECAYS = (0.01, 0.1, 1.0, 10.0)
"""Decoupled decay times learning rate is what shrinks a weight per step."""
EPOCHS, LEAST_STEPS, BATCH = 20, 300, 1024
HELD_OUT = 0.2
SEED = 0


def score_linear_probe(features: Features, evaluation: Evaluation, device: torch.device) -> Result:
    """`top1`, `top5` and per class on the test items; the chosen setting and its held-out accuracy in the policy."""
    classes = len(features.about["classes"])
    video, label = features["train_video"].to(device), features["train_label"].to(device)
    mean, sd = video.mean(0), video.std(0).clamp_min(1e-6)
    video = (video - mean) / sd
    sweep = [(rate, decay) for rate in RATES for decay in DECAYS]
    fitting, held = split(label.cpu())
    heads = train(video[fitting], label[fitting], classes, sweep)
    accuracy = (predict(heads, video[held]).argmax(-1) == label[held]).double().mean(1)
    best = int(accuracy.argmax())
    head = train(video, label, classes, [sweep[best]])
    test = (features["video"].to(device) - mean) / sd
    logits = predict(head, test)[0][features["video_row"].to(device)]
    result = classification(logits.cpu(), features["label"], features, RULES[evaluation.ties])
    result.policy |= {
        "ties": evaluation.ties,
        "recipe": "standardised features, softmax regression, AdamW, cosine; swept on held-out training videos",
        "learning_rate": sweep[best][0],
        "weight_decay": sweep[best][1],
        "held_out_top1": 100 * accuracy[best].item(),
        "training_items": len(label),
    }
    return result


def split(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of (fitting, held-out) items: a fifth of each class held out, at least one and never all of it, drawn
    with a fixed seed.
    """
    generator = torch.Generator().manual_seed(SEED)
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        count = min(len(members) - 1, max(1, round(HELD_OUT * len(members))))
        held[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    return (~held).nonzero().flatten(), held.nonzero().flatten()


def train(video: Tensor, label: Tensor, classes: int, settings: list[tuple[float, float]]) -> tuple[Tensor, Tensor]:
    """Weights [heads, E, C] and biases [heads, 1, C], one head per (learning rate, decay), trained on [M, E] from
    zero in one pass.
    """
    heads, device = len(settings), video.device
    rates = torch.tensor([rate for rate, _ in settings], device=device)[:, None, None]
    decays = torch.tensor([decay for _, decay in settings], device=device)[:, None, None]
    weight = torch.zeros(heads, video.shape[1], classes, device=device)
    bias = torch.zeros(heads, 1, classes, device=device)
    adam = [_Adam(weight), _Adam(bias)]
    batch = min(BATCH, len(video))
    steps = max(LEAST_STEPS, EPOCHS * len(video) // batch)
    generator = torch.Generator().manual_seed(SEED)
    for step in range(steps):
        chosen = (
            torch.randint(len(video), (batch,), generator=generator).to(device) if batch < len(video) else slice(None)
        )
        x, y = video[chosen], F.one_hot(label[chosen], classes).float()
        error = ((x @ weight + bias).softmax(-1) - y) / len(x)
        rate = rates * (0.5 + 0.5 * torch.cos(torch.tensor(torch.pi * step / steps)).item())
        weight.mul_(1 - rate * decays)
        adam[0].update(x.T @ error, rate)
        adam[1].update(error.sum(1, keepdim=True), rate)
    return weight, bias


def predict(head: tuple[Tensor, Tensor], video: Tensor) -> Tensor:
    """Logits [heads, N, C]."""
    weight, bias = head
    return video @ weight + bias


class _Adam:
    """Adam whose learning rate is a tensor, so that heads of one parameter can differ in it."""

    def __init__(self, parameter: Tensor, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        self.parameter, self.betas, self.eps, self.step = parameter, betas, eps, 0
        self.mean, self.square = torch.zeros_like(parameter), torch.zeros_like(parameter)

    def update(self, gradient: Tensor, rate: Tensor) -> None:
        """One step against `gradient`."""
        self.step += 1
        self.mean.lerp_(gradient, 1 - self.betas[0])
        self.square.lerp_(gradient.square(), 1 - self.betas[1])
        mean = self.mean / (1 - self.betas[0] ** self.step)
        square = self.square / (1 - self.betas[1] ** self.step)
        self.parameter -= rate * mean / (square.sqrt() + self.eps)
