"""Train the demo's stand-in for OpenAI's CLIP on captioned stills and save it in transformers' CLIP format.

python demo/clip.py --output DIR [--steps 1500] [--seed 0]
"""

import argparse
import json
import os
import time
from itertools import product
from pathlib import Path

import torch
from stills import draw_stills
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer
from world import MOTIONS, OPENERS, SPOKEN_MOTIONS, SPOKEN_SUBJECTS, SUBJECTS, describe

PIXELS = 48
CONTEXT = 77
VOCABULARY = 700
STILLS, HELD_OUT = 12000, 256
SPECIAL = ("<|startoftext|>", "<|endoftext|>")


def train_tokenizer() -> CLIPTokenizer:
    """A byte-level BPE in CLIP's form whose merges cover both registers; any other text falls apart into letters."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=letters, end_of_word_suffix="</w>", show_progress=False
    )
    spoken = [f"{opener} the {subject.name}" for opener, subject in product(OPENERS, SPOKEN_SUBJECTS)]
    spoken += [text for texts in SPOKEN_MOTIONS.values() for text in texts]
    described = [describe(subject, motion) for subject, motion in product(SUBJECTS, MOTIONS)]
    bpe.train_from_iterator(spoken + described + draw_stills(2000, 1, 0)[1], trainer)
    learned = bpe.get_vocab()
    words = letters + [f"{letter}</w>" for letter in letters]
    words += [word for word in sorted(learned, key=learned.__getitem__) if word not in set(words)]
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    vocabulary = {word: index for index, word in enumerate([*words, *SPECIAL])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT)


def tiny_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """CLIP in miniature: two towers of 3 blocks."""
    tower = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4}
    text = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": CONTEXT,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {"image_size": PIXELS, "patch_size": 12}
    return CLIPModel(CLIPConfig(text_config=tower | text, vision_config=tower | vision, projection_dim=64))


def normalise(stills: torch.Tensor, processor: CLIPImageProcessor) -> torch.Tensor:
    """uint8 [b, 3, h, w] -> float, by the statistics that are saved with the model."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (processor.image_mean, processor.image_std))
    return (stills / 255 - mean) / std


def draw_batch(batch: int, generator: torch.Generator) -> torch.Tensor:
    """Indices of stills: half of them any, half in groups of 8 of one subject, so that place and size must be told apart too."""
    anything = torch.randint(STILLS, (batch // 2,), generator=generator)
    subjects = torch.randint(len(SUBJECTS), (batch // 16,), generator=generator).repeat_interleave(8)
    rows = torch.randint(STILLS // len(SUBJECTS), (len(subjects),), generator=generator)
    return torch.cat([anything, subjects + len(SUBJECTS) * rows])


def train(
    model: CLIPModel,
    tokenizer: CLIPTokenizer,
    processor: CLIPImageProcessor,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
) -> float:
    """Contrast stills with their captions (CLIP's loss) -> share of 256 held-out stills that their captions find first."""
    images, captions = draw_stills(STILLS + HELD_OUT, PIXELS, seed)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    tokens = tokenizer(captions, padding=True, return_tensors="pt").input_ids
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.1)
    target = torch.arange(batch)
    started = time.monotonic()
    for step in range(1, steps + 1):
        chosen = draw_batch(batch, generator)
        logits = model(input_ids=tokens[chosen], pixel_values=normalise(pixels[chosen], processor)).logits_per_image
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step}/{steps}  loss {loss.item():.3f}  {time.monotonic() - started:.0f} s", flush=True)
    with torch.inference_mode():
        held_out = {"input_ids": tokens[STILLS:], "pixel_values": normalise(pixels[STILLS:], processor)}
        logits = model(**held_out).logits_per_text
    return (logits.argmax(1) == torch.arange(HELD_OUT)).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder to write into")
    parser.add_argument("--steps", type=int, default=1300)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tokenizer = train_tokenizer()
    processor = CLIPImageProcessor(size={"shortest_edge": PIXELS}, crop_size={"height": PIXELS, "width": PIXELS})
    model = tiny_clip(tokenizer)
    found = train(model, tokenizer, processor, options.steps, options.batch, options.lr, options.seed)
    print(f"text to still, {HELD_OUT} held out: R@1 {100 * found:.1f} %")
    for part in (processor, tokenizer, model):
        part.save_pretrained(options.output)


if __name__ == "__main__":
    main()
