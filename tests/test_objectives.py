"""The losses: values, and gradients across real processes."""

import math
import multiprocessing
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tests.model.conftest import make_batch, make_model
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tvts.model import TVTSOutput, set_trainable
from tvts.objectives import contrastive_loss, sorting_accuracy, sorting_loss, tvts_loss

BATCH = 8


class Embedder(nn.Module):
    """A shared weight, so that one rank's loss reaches the other ranks' rows through it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 5, dtype=torch.double)

    def forward(self, video: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return contrastive_loss(self.linear(video), self.linear(text))


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(BATCH, 6, dtype=torch.double, generator=generator) for _ in range(2))


def model_inputs():
    return make_batch(BATCH), torch.stack(
        [torch.randperm(4, generator=torch.Generator().manual_seed(i)) for i in range(BATCH)]
    )


def make_full_model() -> nn.Module:
    model = make_model().double().train()
    set_trainable(model, 1)
    return model


def full_loss(model: nn.Module, batch, positions) -> torch.Tensor:
    return tvts_loss(model(**batch | {"video": batch["video"].double()}), positions)["loss"]


def run_rank(rank: int, world: int, folder: str) -> None:
    """One of `world` gloo processes: loss and gradients of its share of the batch, averaged by DDP."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    share = slice(rank * BATCH // world, (rank + 1) * BATCH // world)

    torch.manual_seed(0)
    small = DistributedDataParallel(Embedder())
    small_loss = small(*(x[share] for x in inputs()))
    small_loss.backward()

    batch, positions = model_inputs()
    whole = DistributedDataParallel(make_full_model())
    loss = full_loss(whole, {key: value[share] for key, value in batch.items()}, positions[share])
    loss.backward()

    losses = torch.stack([small_loss.detach(), loss.detach()]) / world
    dist.all_reduce(losses)
    gradients = {
        "small": [parameter.grad for parameter in small.module.parameters()],
        "whole": {name: parameter.grad for name, parameter in whole.module.named_parameters()},
    }
    torch.save({"losses": losses, **gradients}, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_get_the_loss_and_gradients_of_one_process(world: int, tmp_path: Path) -> None:
    multiprocessing.get_context("forkserver").set_forkserver_preload([__name__])
    mp.start_processes(run_rank, (world, str(tmp_path)), nprocs=world, start_method="forkserver")

    torch.manual_seed(0)
    small = Embedder()
    small_loss = small(*inputs())
    small_loss.backward()
    whole = make_full_model()
    loss = full_loss(whole, *model_inputs())
    loss.backward()
    expected = {name: parameter.grad for name, parameter in whole.named_parameters()}
    assert any(gradient is None for gradient in expected.values())  # the frozen block

    for rank in range(world):
        result = torch.load(tmp_path / f"rank{rank}.pt")
        torch.testing.assert_close(result["losses"], torch.stack([small_loss, loss]), rtol=1e-6, atol=0)
        for ours, parameter in zip(result["small"], small.parameters(), strict=True):
            torch.testing.assert_close(ours, parameter.grad, rtol=1e-6, atol=1e-12)
        for name, gradient in expected.items():
            if gradient is None:
                assert result["whole"][name] is None
            else:
                torch.testing.assert_close(result["whole"][name], gradient, rtol=1e-6, atol=1e-12)


def test_contrast_of_equal_embeddings_is_chance_and_of_orthogonal_ones_small() -> None:
    same = torch.ones(5, 3)
    assert contrastive_loss(same, same).item() == pytest.approx(2 * math.log(5))
    apart = torch.eye(5)
    assert contrastive_loss(apart, apart, temperature=0.05).item() == pytest.approx(
        2 * math.log1p(4 * math.exp(-20)), abs=1e-6
    )


def test_contrast_ignores_length_and_sees_direction_of_retrieval() -> None:
    torch.manual_seed(0)
    video, text = torch.randn(6, 4), torch.randn(6, 4)
    loss = contrastive_loss(video, text)
    torch.testing.assert_close(contrastive_loss(3 * video, text / 7), loss)
    torch.testing.assert_close(contrastive_loss(text, video), loss)


def test_contrast_stays_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    video, text = torch.randn(6, 4), torch.randn(6, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(contrastive_loss(video, text), contrastive_loss(video.clone(), text.clone()))
        inside = contrastive_loss(video, text)
    assert torch.equal(inside, contrastive_loss(video, text))


def test_sorting_follows_the_permutation() -> None:
    positions = torch.tensor([[2, 0, 3, 1], [0, 1, 2, 3]])
    right = 20.0 * torch.nn.functional.one_hot(positions, 4)
    assert sorting_loss(right, positions).item() == pytest.approx(0, abs=1e-6)
    assert sorting_loss(torch.zeros(2, 4, 4), positions).item() == pytest.approx(math.log(4))
    order = torch.tensor([3, 1, 0, 2])
    logits = torch.randn(2, 4, 4)
    torch.testing.assert_close(sorting_loss(logits[:, order], positions[:, order]), sorting_loss(logits, positions))
    assert sorting_accuracy(right, positions) == (1.0, 1.0)


def test_accuracy_counts_transcripts_and_whole_videos() -> None:
    positions = torch.tensor([[2, 0, 3, 1], [0, 1, 2, 3]])
    guess = torch.tensor([[2, 0, 3, 1], [0, 1, 3, 2]])
    accuracy = sorting_accuracy(torch.nn.functional.one_hot(guess, 4).float(), positions)
    assert (accuracy.transcripts.item(), accuracy.videos.item()) == (0.75, 0.5)


def test_guessing_the_order_of_arrival_is_chance_on_shuffled_targets() -> None:
    positions = torch.stack([torch.randperm(4, generator=torch.Generator().manual_seed(i)) for i in range(2000)])
    accuracy = sorting_accuracy(torch.eye(4).expand(2000, -1, -1), positions)
    assert accuracy.transcripts.item() == pytest.approx(1 / 4, abs=0.02)
    assert accuracy.videos.item() == pytest.approx(1 / 24, abs=0.02)


def test_weights_combine_the_terms() -> None:
    output = make_model()(**make_batch())
    positions = torch.tensor([[2, 0, 3, 1]]).expand(3, -1)
    losses = tvts_loss(output, positions, contrastive_weight=1 / 80, sorting_weight=2.0)
    torch.testing.assert_close(losses["loss"], losses["contrastive"] / 80 + 2 * losses["sorting"])
    torch.testing.assert_close(losses["sorting"], sorting_loss(output.order_logits, positions))
    default = tvts_loss(output, positions)
    torch.testing.assert_close(default["loss"], default["contrastive"] + 2 * default["sorting"])


def test_single_texts_have_nothing_to_sort() -> None:
    embeds = torch.randn(3, 4)
    losses = tvts_loss(TVTSOutput(video_embeds=embeds, text_embeds=embeds), None)
    assert losses["sorting"] == 0 and losses["loss"] == losses["contrastive"]


def test_training_sorts_and_matches_a_few_clips() -> None:
    """Eight random clips with shuffled transcripts are learnt by heart, whatever order they come in."""
    torch.manual_seed(0)
    model, (batch, positions) = make_model().train(), model_inputs()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(60):
        order = torch.randperm(4, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        output = model(batch["video"], batch["keep_indices"], batch["input_ids"][:, order])
        losses = tvts_loss(output, positions[:, order])
        losses["loss"].backward()
        optimizer.step()
    assert sorting_accuracy(output.order_logits, positions[:, order]).transcripts > 0.9
    assert losses["contrastive"] < 0.5
