"""Linear probe: softmax regression on frozen features, its strength of decay chosen on held-out training data.

TVTSv2's own recipe is unreleased (protocol 3.1), so this is a documented substitute, that of CLIP's paper: one clip per
video, no augmentation, L2-penalised softmax regression solved by L-BFGS (a convex problem: no learning rate to tune).
Features are standardised per dimension with the training set's statistics. The best decay on a held-out fifth of the
training videos (clips of one source stay together) is used to fit all of them. The test set is read once, at the end.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from tvts.config import Evaluation, UserError
from tvts.evaluate.features import Features
from tvts.evaluate.recognition import RULES, classification
from tvts.evaluate.result import Result

DECAYS = tuple(10.0**power for power in (1, 0.5, 0, -0.5, -1, -1.5, -2, -2.5, -3, -4, -5, -6))
"""Swept from strong to weak, each fit starting from the last; of equals the strongest is chosen."""
ITERATIONS = 200
HELD_OUT = 0.2
SEED = 0

Head = tuple[Tensor, Tensor]
"""Weights [E, C] and biases [C]."""


def score_linear_probe(features: Features, evaluation: Evaluation, device: torch.device) -> Result:
    """`top1`, `top5` and per class on the test items; the chosen decay and its held-out accuracy in the policy."""
    classes = len(features.about["classes"])
    video, label = features["train_video"].to(device), features["train_label"].to(device)
    mean, sd = video.mean(0), video.std(0).clamp_min(1e-6)
    video = (video - mean) / sd
    fitting, held = split(label.cpu(), features["train_group"])
    if not len(held):
        raise UserError(
            f"{features.path}: a linear probe needs readable training videos of some class from two sources at least"
        )
    decay, accuracy = choose_decay((video[fitting], label[fitting]), (video[held], label[held]), classes)
    head = fit(video, label, decay, blank(video.shape[1], classes, device))
    test = (features["video"].to(device) - mean) / sd
    logits = predict(head, test)[features["video_row"].to(device)]
    result = classification(logits.cpu(), features["label"], features, RULES[evaluation.ties])
    result.policy |= {
        "ties": evaluation.ties,
        "recipe": "standardised features, softmax regression by L-BFGS, decay swept on held-out training videos",
        "decay": decay,
        "held_out_top1": 100 * accuracy,
        "training_items": len(label),
    }
    return result


def split(labels: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of (fitting, held-out) items: whole groups are held out, drawn with a fixed seed.

    Groups are taken in random order while each class in them still lacks its fifth (at least one item), and never all
    items of a class.
    """
    counts = labels.bincount()
    least = (HELD_OUT * counts).round().long().clamp_min(1)
    taken = torch.zeros_like(counts)
    held = torch.zeros(len(labels), dtype=torch.bool)
    members = groups.argsort(stable=True).split(groups.unique(return_counts=True)[1].tolist())
    order = torch.randperm(len(members), generator=torch.Generator().manual_seed(SEED)).tolist()
    for items in (members[place] for place in order):
        adds = labels[items].bincount(minlength=len(counts))
        here = adds > 0
        if (taken < least)[here].all() and (taken + adds < counts)[here].all():
            taken += adds
            held[items] = True
    return (~held).nonzero().flatten(), held.nonzero().flatten()


def choose_decay(fitting: tuple[Tensor, Tensor], held: tuple[Tensor, Tensor], classes: int) -> tuple[float, float]:
    """The decay that does best on `held` (features, labels) when fitted on `fitting`, and its accuracy there in [0, 1]."""
    head = blank(fitting[0].shape[1], classes, fitting[0].device)
    best = (DECAYS[0], -1.0)
    for decay in DECAYS:
        head = fit(*fitting, decay, head)
        accuracy = (predict(head, held[0]).argmax(-1) == held[1]).double().mean().item()
        if accuracy > best[1]:
            best = (decay, accuracy)
    return best


def blank(width: int, classes: int, device: torch.device) -> Head:
    """A head of zeros."""
    return torch.zeros(width, classes, device=device), torch.zeros(classes, device=device)


def fit(video: Tensor, label: Tensor, decay: float, start: Head) -> Head:
    """Minimise the mean cross-entropy of features [M, E] and labels [M] plus decay / 2 times the squared weights."""
    weight, bias = (parameter.clone().requires_grad_() for parameter in start)
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=ITERATIONS, tolerance_grad=1e-5, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        solver.zero_grad()
        with torch.enable_grad():
            loss = F.cross_entropy(video @ weight + bias, label) + decay / 2 * weight.square().sum()
            loss.backward()
        return loss

    solver.step(closure)
    return weight.detach(), bias.detach()


def predict(head: Head, video: Tensor) -> Tensor:
    """Logits [N, C]."""
    weight, bias = head
    return video @ weight + bias
