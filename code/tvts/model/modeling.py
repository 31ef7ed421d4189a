"""TVTSv2 (arXiv 2305.14173): CLIP's towers with divided space-time attention and tube mask, and a transcript sorter.

CLIP's own parameters keep the names they have in transformers, so every CLIP folder loads. New are
`temporal_embedding`, `temporal_attn` and `layer_norm3` of each video block, and `sorter`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.clip.modeling_clip import CLIPMLP, eager_attention_forward
from transformers.utils import ModelOutput

from .configuration import TVTSConfig


@dataclass
class TVTSOutput(ModelOutput):
    """B videos with K transcripts each, in a joint space of width E. Nothing is normalised.

    video_embeds [B, E]; transcript_embeds [B, K, E]; text_embeds [B, E], their mean over K;
    video_tokens [B, N, E], what the sorter sees; order_logits [B, K, K]: row = transcript, class = its true
    position in time (None without a sorter and for K = 1).
    """

    video_embeds: Tensor | None = None
    transcript_embeds: Tensor | None = None
    text_embeds: Tensor | None = None
    video_tokens: Tensor | None = None
    order_logits: Tensor | None = None


class TVTSPreTrainedModel(PreTrainedModel):
    """Loading, saving and initialisation."""

    config_class = TVTSConfig
    base_model_prefix = "tvts"
    main_input_name = "video"
    input_modalities = ("video", "text")
    supports_gradient_checkpointing = True
    _no_split_modules: ClassVar = ["VideoEmbeddings", "VideoLayer", "SorterLayer"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _keys_to_ignore_on_load_unexpected: ClassVar = [r"^logit_scale$", r"embeddings\.position_ids$"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, VideoEmbeddings):
            init.normal_(module.class_embedding, std=module.class_embedding.shape[0] ** -0.5)
            init.normal_(module.temporal_embedding, std=module.temporal_std)
        elif isinstance(module, Sorter):
            init.zeros_(module.type_embedding)
        elif isinstance(module, ConstantLinear):
            init.constant_(module.weight, module.value)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):  # PyTorch's own rule: the official sorter keeps it
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            if module.bias is not None:
                init.uniform_(module.bias, -(module.in_features**-0.5), module.in_features**-0.5)
        else:
            super()._init_weights(module)


class ConstantLinear(nn.Linear):
    """A linear layer that starts with every weight at `value` and no bias.

    The rule sits on the leaf, since transformers skips `_init_weights` of custom modules that own no parameter.
    """

    def __init__(self, width: int, value: float):
        self.value = value
        super().__init__(width, width)

    def reset_parameters(self) -> None:
        nn.init.constant_(self.weight, self.value)
        nn.init.zeros_(self.bias)


class Attention(nn.Module):
    """Multi-head attention through transformers' attention interface (SDPA by default)."""

    is_causal = False

    def __init__(self, config: PreTrainedConfig, width: int, heads: int):
        super().__init__()
        self.config = config
        self.heads = heads
        self.scaling = (width // heads) ** -0.5
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Query [..., L, width] looks at key and value [..., S, width], separately for each leading index."""

        def heads(x: Tensor) -> Tensor:
            return x.flatten(0, -3).unflatten(-1, (self.heads, -1)).transpose(1, 2)

        implementation = self.config._attn_implementation
        interface = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
        mixed, _ = interface(self, heads(query), heads(key), heads(value), None, scaling=self.scaling, dropout=0.0)
        return mixed.reshape(query.shape)

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        """Query [B, L, width] looks at context [B, S, width]."""
        return self.out_proj(self.attend(self.q_proj(query), self.k_proj(context), self.v_proj(context)))


class DividedAttention(Attention):
    """Patches attend to CLS and their group: one frame ("space") or one patch position ("time"). CLS attends to all."""

    def forward(self, hidden: Tensor, frames: int, over: Literal["space", "time"]) -> Tensor:  # type: ignore[override]
        """[B, 1 + T * n, width] -> the same shape; CLS first, then frame after frame."""
        query, key, value = self.q_proj(hidden), self.k_proj(hidden), self.v_proj(hidden)

        def grouped(x: Tensor) -> Tensor:
            patches = x[:, 1:].unflatten(1, (frames, -1))
            return patches if over == "space" else patches.transpose(1, 2)

        def with_cls(x: Tensor) -> Tensor:
            patches = grouped(x)
            return torch.cat([x[:, None, :1].expand(-1, patches.shape[1], -1, -1), patches], dim=2)

        patches = self.attend(grouped(query), with_cls(key), with_cls(value))
        if over == "time":
            patches = patches.transpose(1, 2)
        cls = self.attend(query[:, :1], key, value)
        return self.out_proj(torch.cat([cls, patches.flatten(1, 2)], dim=1))


class TemporalAttention(DividedAttention):
    """Divided attention that returns exactly zero until it is trained, from either start of `temporal_attention_init`."""

    def __init__(self, config: TVTSConfig):
        tower = config.vision_config
        super().__init__(tower, tower.hidden_size, tower.num_attention_heads)
        official = config.temporal_attention_init == "official"
        if official:
            self.q_proj, self.k_proj, self.v_proj = (ConstantLinear(tower.hidden_size, 0.0) for _ in range(3))
        self.out_proj = ConstantLinear(tower.hidden_size, 1.0 if official else 0.0)


class VideoLayer(GradientCheckpointingLayer):
    """A CLIP block with attention over time before attention over space.

    The space residual adds to the block's input, not to the result over time (Frozen in Time, official code).
    """

    def __init__(self, config: TVTSConfig):
        super().__init__()
        tower = config.vision_config
        width, eps = tower.hidden_size, tower.layer_norm_eps
        self.layer_norm3 = nn.LayerNorm(width, eps)
        self.temporal_attn = TemporalAttention(config)
        self.layer_norm1 = nn.LayerNorm(width, eps)
        self.self_attn = DividedAttention(tower, width, tower.num_attention_heads)
        self.layer_norm2 = nn.LayerNorm(width, eps)
        self.mlp = CLIPMLP(tower)

    def forward(self, hidden: Tensor, frames: int) -> Tensor:
        timed = hidden + self.temporal_attn(self.layer_norm3(hidden), frames, "time")
        hidden = hidden + self.self_attn(self.layer_norm1(timed), frames, "space")
        return hidden + self.mlp(self.layer_norm2(hidden))


class VideoEmbeddings(nn.Module):
    """Patches of all frames with position and time; the tube mask drops the same patches from every frame."""

    def __init__(self, config: TVTSConfig):
        super().__init__()
        width, self.patch_size = config.vision_config.hidden_size, config.vision_config.patch_size
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.patch_embedding = nn.Conv2d(3, width, kernel_size=self.patch_size, stride=self.patch_size, bias=False)
        self.position_embedding = nn.Embedding(config.num_patches + 1, width)
        self.temporal_embedding = nn.Parameter(torch.empty(config.num_frames, width))
        self.temporal_std = width**-0.5 if config.temporal_embedding_std is None else config.temporal_embedding_std

    def forward(self, video: Tensor, keep_indices: Tensor | None) -> Tensor:
        """[B, T, 3, H, W] -> [B, 1 + T * n, width]: CLS, then the kept patches frame after frame."""
        position = self.position_embedding.weight
        patches = _patches(video, self.patch_size, keep_indices)
        tokens = F.linear(patches, self.patch_embedding.weight.flatten(1))
        place = position[1:] if keep_indices is None else position[1:][keep_indices].unsqueeze(1)
        tokens = tokens + place + self.temporal_embedding[: video.shape[1], None]
        cls = (self.class_embedding + position[0]).expand(len(video), 1, -1)
        return torch.cat([cls, tokens.flatten(1, 2)], dim=1)


def _patches(video: Tensor, size: int, keep_indices: Tensor | None) -> Tensor:
    """Cut [B, T, 3, H, W] into [B, T, n, 3 * size * size]; hidden patches are never copied."""
    grid = video.unflatten(4, (-1, size)).unflatten(3, (-1, size)).permute(0, 1, 3, 5, 2, 4, 6)
    if keep_indices is None:
        return grid.flatten(2, 3).flatten(3)
    batch = torch.arange(len(video), device=video.device)[:, None, None]
    frame = torch.arange(video.shape[1], device=video.device)[None, :, None]
    keep = keep_indices[:, None]
    return grid[batch, frame, keep // grid.shape[3], keep % grid.shape[3]].flatten(3)


class VideoEncoder(nn.Module):
    """The stack of video blocks."""

    def __init__(self, config: TVTSConfig):
        super().__init__()
        self.layers = nn.ModuleList(VideoLayer(config) for _ in range(config.vision_config.num_hidden_layers))

    def forward(self, hidden: Tensor, frames: int) -> Tensor:
        for layer in self.layers:
            hidden = layer(hidden, frames)
        return hidden


class VideoModel(TVTSPreTrainedModel):
    """CLIP's vision tower over space and time."""

    def __init__(self, config: TVTSConfig):
        tower = config.vision_config
        super().__init__(tower)
        self.embeddings = VideoEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(tower.hidden_size, tower.layer_norm_eps)  # spelt as in transformers
        self.encoder = VideoEncoder(config)
        self.post_layernorm = nn.LayerNorm(tower.hidden_size, tower.layer_norm_eps)
        self.post_init()

    def forward(self, video: Tensor, keep_indices: Tensor | None) -> Tensor:
        """[B, T, 3, H, W] -> [B, 1 + T * n, width], before `post_layernorm`."""
        hidden = self.pre_layrnorm(self.embeddings(video, keep_indices))
        return self.encoder(hidden, video.shape[1])


class SorterLayer(GradientCheckpointingLayer):
    """A pre-LN transformer block that can be asked for its last rows alone."""

    def __init__(self, config: TVTSConfig):
        super().__init__()
        width, eps = config.projection_dim, config.sorter_config.layer_norm_eps
        self.layer_norm1 = nn.LayerNorm(width, eps)
        self.self_attn = Attention(config, width, config.sorter_config.num_attention_heads)
        self.layer_norm2 = nn.LayerNorm(width, eps)
        self.mlp = CLIPMLP(config.sorter_config)

    def forward(self, hidden: Tensor, rows: int) -> Tensor:
        """[B, L, E] -> [B, rows, E], the block's output for the last `rows` tokens."""
        context = self.layer_norm1(hidden)
        hidden = hidden[:, -rows:] + self.self_attn(context[:, -rows:], context)
        return hidden + self.mlp(self.layer_norm2(hidden))


class Sorter(nn.Module):
    """Tells each transcript's place in time by attending to the video and the other transcripts (paper section 3).

    Transcripts carry no position, so the sorter is permutation-equivariant: the order they come in tells it nothing.
    """

    def __init__(self, config: TVTSConfig):
        super().__init__()
        width = config.projection_dim
        self.type_embedding = nn.Parameter(torch.empty(2, width))
        self.layers = nn.ModuleList(SorterLayer(config) for _ in range(config.sorter_layers))
        self.layer_norm = nn.LayerNorm(width, config.sorter_config.layer_norm_eps)
        self.head = nn.Linear(width, config.num_transcripts)

    def forward(self, video_tokens: Tensor, transcripts: Tensor) -> Tensor:
        """Video tokens [B, N, E], transcripts [B, K, E] -> logits [B, K, K]: row = transcript, class = position."""
        video_type, text_type = self.type_embedding
        hidden = torch.cat([video_tokens + video_type, transcripts + text_type], dim=1)
        for layer in self.layers[:-1]:
            hidden = layer(hidden, hidden.shape[1])
        return self.head(self.layer_norm(self.layers[-1](hidden, transcripts.shape[1])))


class TVTSModel(TVTSPreTrainedModel):
    """Video-text encoder with a transcript sorter.

    A new model's random parts follow torch's global generator: seed it first.
    """

    def __init__(self, config: TVTSConfig):
        super().__init__(config)
        self.text_model = CLIPTextModel._from_config(config.text_config)
        self.vision_model = VideoModel(config)
        width = config.projection_dim
        self.text_projection = nn.Linear(config.text_config.hidden_size, width, bias=False)
        self.visual_projection = nn.Linear(config.vision_config.hidden_size, width, bias=False)
        self.sorter = Sorter(config) if config.sorter_layers else None
        self.post_init()

    def forward(self, video: Tensor, keep_indices: Tensor | None = None, input_ids: Tensor | None = None) -> TVTSOutput:
        """Encode videos and their transcripts and sort the transcripts.

        video: [B, T, 3, H, W] normalised floats, T up to `num_frames`.
        keep_indices: [B, n] patches (0 .. N - 1, CLS not counted) to see in every frame, or None for all.
        input_ids: [B, K, L] token ids, K = `num_transcripts` or 1.
        The sorter gets the transcripts detached, so sorting does not move the text tower (official).
        Raises ValueError for input of another form.
        """
        allowed = (1, self.config.num_transcripts)
        if (
            input_ids is None
            or input_ids.dim() != 3
            or len(input_ids) != len(video)
            or input_ids.shape[1] not in allowed
        ):
            given = "nothing" if input_ids is None else list(input_ids.shape)
            raise ValueError(f"input_ids: expected [{len(video)}, K, L] with K = {allowed[1]} or 1, got {given}")
        transcripts = self.get_text_features(input_ids.flatten(0, 1)).unflatten(0, input_ids.shape[:2])
        video_embeds, video_tokens = self._project(self._encode_video(video, keep_indices))
        order_logits = None
        if self.sorter is not None and transcripts.shape[1] > 1:
            order_logits = self.sorter(video_tokens, transcripts.detach())
        return TVTSOutput(
            video_embeds=video_embeds,
            transcript_embeds=transcripts,
            text_embeds=transcripts.mean(1),
            video_tokens=video_tokens,
            order_logits=order_logits,
        )

    def get_video_features(self, video: Tensor, keep_indices: Tensor | None = None) -> Tensor:
        """Videos [B, T, 3, H, W] -> [B, E], not normalised; arguments and errors as in `forward`."""
        cls = self._encode_video(video, keep_indices)[:, 0]
        return self.visual_projection(self.vision_model.post_layernorm(cls))

    def get_text_features(self, input_ids: Tensor) -> Tensor:
        """Token ids [B, L], each row with an end-of-text token -> [B, E], not normalised.

        Padding after the longest text is cut off, which is exact since the tower is causal. On an accelerator that
        would stall the queue, so there the caller cuts before the copy (`trim_text`). Raises ValueError for text
        longer than the tower's context.
        """
        tower = self.config.text_config
        if input_ids.device.type == "cpu":
            input_ids = trim_text(input_ids, tower.eos_token_id)
        if input_ids.shape[-1] > tower.max_position_embeddings:
            context = tower.max_position_embeddings
            raise ValueError(f"input_ids: {input_ids.shape[-1]} tokens, the text tower takes {context}; truncate texts")
        return self.text_projection(self.text_model(input_ids).pooler_output)

    def blocks(self) -> Iterator[nn.Module]:
        """All transformer blocks: the units for `torch.compile`, activation checkpointing and sharding."""
        yield from self.vision_model.encoder.layers
        yield from self.text_model.encoder.layers
        if self.sorter is not None:
            yield from self.sorter.layers

    def _encode_video(self, video: Tensor, keep_indices: Tensor | None) -> Tensor:
        self._check_video(video, keep_indices)
        return self.vision_model(video, keep_indices)

    def _project(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Video tower output -> embedding [B, E] and the sorter's tokens [B, N, E], by `clip_style`."""
        norm = self.vision_model.post_layernorm
        if self.config.clip_style == "openai":
            tokens = self.visual_projection(norm(hidden))
            return tokens[:, 0], tokens
        return self.visual_projection(norm(hidden[:, 0])), self.visual_projection(hidden[:, 1:])

    def _check_video(self, video: Tensor, keep_indices: Tensor | None) -> None:
        size, frames = self.config.vision_config.image_size, self.config.num_frames
        if video.dim() != 5 or video.shape[2:] != (3, size, size) or not 1 <= video.shape[1] <= frames:
            raise ValueError(f"video: expected [B, 1 to {frames}, 3, {size}, {size}], got {list(video.shape)}")
        if not video.is_floating_point():
            raise ValueError(f"video: expected normalised floats, got {video.dtype}; see normalize_frames")
        if keep_indices is None:
            return
        patches, given = self.config.num_patches, keep_indices.shape
        if keep_indices.dim() != 2 or given[0] != len(video) or not 1 <= given[1] <= patches:
            raise ValueError(f"keep_indices: expected [{len(video)}, 1 to {patches}], got {list(given)}")


def text_ends(input_ids: Tensor, eos_token_id: int) -> Tensor:
    """Position [...] of each text's end-of-text in ids [..., L], where the tower is read out.

    `eos_token_id` as in CLIP's text config, where 2 means "the largest id of the row" (old configs).
    Raises ValueError if a row has no end-of-text.
    """
    ends = input_ids == (input_ids.amax(-1, keepdim=True) if eos_token_id == 2 else eos_token_id)
    if not ends.any(-1).all():
        raise ValueError(f"input_ids: a text has no end-of-text token ({eos_token_id}); truncate in the tokenizer")
    return ends.int().argmax(-1)


def trim_text(input_ids: Tensor, eos_token_id: int) -> Tensor:
    """Cut padding after the longest text: [..., L] -> [..., longest], end-of-text included. For ids in host memory.

    Arguments and errors as in `text_ends`.
    """
    return input_ids[..., : int(text_ends(input_ids, eos_token_id).max()) + 1]


TVTSModel.register_for_auto_class("AutoModel")
