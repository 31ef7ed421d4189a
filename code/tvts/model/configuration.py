"""TVTSv2's configuration: two CLIP towers and what is added to them."""

from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import CLIPTextConfig, CLIPVisionConfig, PreTrainedConfig


@strict
class TVTSConfig(PreTrainedConfig):
    """Sizes and choices of a TVTS model. Defaults are TVTSv2 ViT-B/32.

    text_config, vision_config: CLIP's two towers (`CLIPTextConfig`, `CLIPVisionConfig`, or dictionaries).
    projection_dim: width E of the joint space.
    num_frames: longest video in frames (rows of the temporal embedding).
    num_transcripts: K, transcripts to sort (classes of the sorter's head).
    sorter_layers, sorter_heads: size of the sorter; 0 layers = no sorter, heads default to E / 64.
    clip_style: "openai" normalises and projects every video token and sorts with all of them (B/32, B/16);
        "openclip" normalises CLS alone and sorts with projected patches (H/14).
    mask_ratio: share of patches hidden in training (tube mask). The model itself obeys `keep_indices`.
    temporal_embedding_std: sd of the initial temporal embedding; None = width^-0.5 (official), 0 = zeros (one frame then
        gives CLIP's embedding).
    temporal_attention_init: "official" (queries, keys and values zero, output ones) or "random" (output zero). Both
        start at exactly zero, but the official start is a saddle: queries and keys get no gradient, ever, so attention
        over time stays a uniform mean; from "random" all four projections learn.
    """

    model_type = "tvts"
    sub_configs_defaults: ClassVar = {"text_config": CLIPTextConfig, "vision_config": CLIPVisionConfig}

    text_config: Any = None
    vision_config: Any = None
    projection_dim: int = 512
    num_frames: int = 12
    num_transcripts: int = 4
    sorter_layers: int = 2
    sorter_heads: int | None = None
    clip_style: Literal["openai", "openclip"] = "openai"
    mask_ratio: int | float = 0.0
    temporal_embedding_std: int | float | None = None
    temporal_attention_init: Literal["official", "random"] = "official"

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.sorter_heads = self.sorter_heads or max(1, self.projection_dim // 64)
        # LAION's CLIP folders leave a stale default in the towers; the top-level value is the true one.
        self.text_config.projection_dim = self.vision_config.projection_dim = self.projection_dim
        if self.sorter_layers and self.projection_dim % self.sorter_heads:
            raise ValueError(f"sorter_heads: {self.sorter_heads} does not divide projection_dim {self.projection_dim}")
        self.kept_patches(self.mask_ratio)

    @property
    def num_patches(self) -> int:
        """Patches N of one frame, without CLS."""
        return (self.vision_config.image_size // self.vision_config.patch_size) ** 2

    def kept_patches(self, mask_ratio: float) -> int:
        """Patches n that a tube mask leaves of each frame: floor(N * (1 - mask_ratio)), the official rounding.

        Raises ValueError when that is none, or more than all N.
        """
        kept = int(self.num_patches * (1 - mask_ratio))
        if not 1 <= kept <= self.num_patches:
            raise ValueError(
                f"mask_ratio: {mask_ratio} leaves {kept} of {self.num_patches} patches; "
                f"allowed: 0 to {1 - 1 / self.num_patches:.3f}"
            )
        return kept

    @property
    def sorter_config(self) -> CLIPVisionConfig:
        """The sorter's blocks, in the terms of a CLIP tower (official `sort_transformer.py`)."""
        return CLIPVisionConfig(
            hidden_size=self.projection_dim,
            intermediate_size=4 * self.projection_dim,
            num_attention_heads=self.sorter_heads,
            num_hidden_layers=self.sorter_layers,
            hidden_act="gelu",
            layer_norm_eps=1e-6,
        )


TVTSConfig.register_for_auto_class()
