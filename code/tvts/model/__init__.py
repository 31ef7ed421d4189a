"""The TVTSv2 encoder for transformers: configuration, model, processor, conversion and tuning."""

from transformers import AutoConfig, AutoModel, AutoProcessor

from .configuration import TVTSConfig
from .convert import convert_checkpoint, from_clip, from_official, to_official
from .modeling import TVTSModel, TVTSOutput, text_ends, trim_text
from .processing import TVTSProcessor, normalize_frames
from .tuning import group_table, parameter_groups, set_trainable

AutoConfig.register(TVTSConfig.model_type, TVTSConfig)
AutoModel.register(TVTSConfig, TVTSModel)
AutoProcessor.register(TVTSConfig, TVTSProcessor)

__all__ = [
    "TVTSConfig",
    "TVTSModel",
    "TVTSOutput",
    "TVTSProcessor",
    "convert_checkpoint",
    "from_clip",
    "from_official",
    "group_table",
    "normalize_frames",
    "parameter_groups",
    "set_trainable",
    "text_ends",
    "to_official",
    "trim_text",
]
