"""What `config.yaml` may say (`schema`), what it means (`resolve`) and how problems are told (`errors`). Imports stay light:
every cluster job parses the config anew."""

from tvts.config.errors import UserError
from tvts.config.resolve import (
    Experiment,
    deep_merge,
    fingerprint,
    frozen_run,
    identity,
    operational,
    read_settings,
    read_yaml,
    validate,
)
from tvts.config.schema import (
    Benchmark,
    Config,
    Corpus,
    Dataset,
    Evaluation,
    Fetch,
    Media,
    Run,
    Transcribe,
)

__all__ = [
    "Benchmark", "Config", "Corpus", "Dataset", "Evaluation", "Experiment", "Fetch", "Media", "Run", "Transcribe",
    "UserError", "deep_merge", "fingerprint", "frozen_run", "identity", "operational", "read_settings", "read_yaml", "validate",
]  # fmt: skip
