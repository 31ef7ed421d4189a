"""The typed model of `config.yaml`: every key, its type, its bounds, its default and its meaning.

The JSON schema in `workflow/schemas/` and the reference in `docs/config.md` are generated from this file. Defaults are the paper's
(arXiv 2305.14173) or the official code's; unknown keys are errors at every level.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, le=1)]


def _blocks(value: Any) -> Any:
    if value == "all" or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise ValueError("should be a number of blocks (0 = end-to-end) or 'all'")


FrozenBlocks = Annotated[int | Literal["all"], PlainValidator(_blocks, json_schema_input_type=int | Literal["all"])]


class Section(BaseModel):
    """A part of the config: no unknown keys, no silent conversion of types, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


# --- corpora: from a list of videos to clips and transcripts ---------------------------------------------------------


class Spans(Section):
    """Which parts of a video become clips."""

    per_video: Count | Literal["all"] = 2
    """Spans cut from each video, at seeded positions that do not overlap. `all`: the whole video in equal parts of at most `seconds`
    (small corpora: a long video costs much space and time)."""
    seconds: Annotated[float, Field(gt=0, le=30)] = 30.0
    """Length of a span. At most 30 s, one Whisper input; a shorter video is one span."""
    place: Literal["random", "voice", "words"] = "random"
    """`random`: every placement is equally likely. The others take the best of 32 such placements: `voice` the one with the most voice
    activity (hears the whole video: about 1 s of CPU per 10 minutes), `words` the one with the most words in the files of
    `transcribe.annotations` (random for a video without)."""


class Fetch(Section):
    """How a shard of videos is fetched, cut and transcoded."""

    spans: Spans = Spans()
    """The parts of a video that become clips."""
    short_side: Annotated[int, Field(ge=16, le=1080)] = 256
    """Shorter side of the transcoded clip, pixels."""
    fps: Positive = 15.0
    """Constant frame rate of the transcoded clip."""
    gop: Count = 16
    """Frames from one keyframe to the next: short, so that sparse frames decode cheaply."""
    crf: Annotated[int, Field(ge=0, le=51)] = 23
    """x264 quality (lower is better)."""
    allow_file_urls: bool = False
    """Accept `file://` URLs in the list. Only for lists you wrote yourself."""
    allow_private_hosts: bool = False
    """Accept hosts on loopback and private networks. Only for lists you wrote yourself."""
    max_video_seconds: Positive = 3600.0
    """A longer video is skipped (status `too_long`)."""
    max_bytes: Count = 2_000_000_000
    """A larger download is abandoned (status `skipped_rule`)."""
    timeout_seconds: Positive = 600.0
    """Wall-clock limit for one video, from fetch to verified clips."""
    attempts: Count = 3
    """Tries for one video whose failure may pass (network, throttling)."""


class Transcribe(Section):
    """How speech becomes words with times."""

    engine: Literal["whisper", "faster_whisper", "pocketsphinx", "captions", "yt_temporal"] = "whisper"
    """`whisper`, `faster_whisper` (needs the extra `faster-whisper`) and `pocketsphinx` listen; `captions` reads YouTube's json3 and
    VTT tracks, `yt_temporal` the annotations of YT-Temporal-180M."""
    model: str | None = None
    """Whisper: path of a local checkpoint file such as `large-v3.pt`. Faster-whisper: a folder written by CTranslate2's converter.
    Pocketsphinx: an acoustic model folder; none = the one
    in its wheel."""
    language: str | None = "en"
    """Spoken language; none lets the engine detect it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where whisper and faster_whisper run; `auto` = on a GPU if there is one."""
    precision: Literal["auto", "fp16", "fp32", "int8"] = "auto"
    """Arithmetic of whisper and faster_whisper. `auto`: fp16 on a GPU, fp32 on a CPU (faster_whisper: as its model was converted);
    `int8` is for faster_whisper."""
    batch_size: Count = 16
    """Clips decoded together (whisper, faster_whisper)."""
    annotations: str | None = None
    """Folder of caption or annotation files, for `captions` and `yt_temporal`."""
    options: dict[str, Any] = {}
    """Options handed to the engine as they are (pocketsphinx: decoder parameters)."""


class Corpus(Section):
    """Where narrated or captioned videos come from."""

    source: Literal["youtube", "http", "local"]
    """`youtube`: ids fetched by yt-dlp (opt-in, slow, subject to its terms); `http`: URLs; `local`: files already here."""
    list: str
    """CSV, TSV, JSON lines, parquet or text file (plain or .gz): column `id`, and `url` or `path` (none needed for `youtube`),
    optionally `caption`; or a folder of videos or of video2dataset tars."""
    obtain: str = "write this list yourself: columns id and url (or path)"
    """How to get the list; shown when it is missing."""
    root: str | None = None
    """Folder that relative paths of a `local` list start from; none = the list's own folder."""
    shards: Count = 100
    """Shards the corpus is split into. A video's shard depends only on its id and this number."""
    seed: int = 0
    """Seed of the span positions."""
    fetch: Fetch = Fetch()
    """How videos are fetched and cut."""
    transcribe: Transcribe | None = Transcribe()
    """How speech becomes words; none for corpora whose text is a caption in the list."""

    @model_validator(mode="after")
    def _words_to_place_by(self) -> "Corpus":
        read = self.transcribe is not None and self.transcribe.engine in ("captions", "yt_temporal")
        if self.fetch.spans.place == "words" and not read:
            raise ValueError("fetch.spans.place: words needs transcribe.engine captions or yt_temporal")
        return self


# --- datasets: from transcripts to windows of shuffled segments ------------------------------------------------------


class Cleaning(Section):
    """Rules that keep bad transcripts out. Each is counted in the dataset's card."""

    min_probability: Share = 0.0
    """Words the engine believes less are dropped."""
    max_word_seconds: Positive = 2.0
    """A word that lasts longer is cut to this length (words stretched over music)."""
    max_repeats: Count = 4
    """A clip in which one word or phrase repeats more often in a row is dropped (hallucination)."""
    min_words_per_minute: Annotated[float, Field(ge=0)] = 10.0
    """Clips with sparser speech are dropped."""
    max_words_per_minute: Positive = 400.0
    """Clips with denser speech are dropped."""


class Dataset(Section):
    """Windows of K segments with their transcripts, or captioned clips."""

    corpus: str
    """Name in `corpora`."""
    text: Literal["transcript", "caption"] = "transcript"
    """`transcript`: windows of K segments (contrast and sorting); `caption`: one text per clip (contrast alone)."""
    segments: Annotated[int, Field(ge=1, le=16)] = 4
    """K, transcripts to put back in order (paper: 4)."""
    segment_seconds: Annotated[list[Positive], Field(min_length=2, max_length=2)] = [3.0, 5.0]
    """Shortest and longest segment; one length is drawn for all K (official: 3 to 5 s)."""
    gap_seconds: Annotated[float, Field(ge=0)] = 1.0
    """Pause between segments (official: 1 s)."""
    stride_seconds: Positive = 0.5
    """Distance of candidate window starts."""
    min_words: Count = 2
    """A window is usable when each segment has at least this many words."""
    margin_seconds: Annotated[float, Field(ge=0)] = 0.0
    """No window comes closer to a clip's start or end: room to jitter it, and away from words that the cut has damaged."""
    validation_share: Share = 0.01
    """Share of videos held out, chosen by hash of the video id."""
    validation_windows: Count = 1
    """Fixed windows kept per held-out clip, each with a stored shuffling."""
    seed: int = 0
    """Seed of the split, the validation windows and their shuffling."""
    cleaning: Cleaning = Cleaning()
    """Rules that keep bad transcripts out."""

    @model_validator(mode="after")
    def _segment_range(self) -> "Dataset":
        if self.segment_seconds[0] > self.segment_seconds[1]:
            raise ValueError("segment_seconds is [shortest, longest]; shortest must not exceed longest")
        return self


# --- runs: models, objectives, optimisation -------------------------------------------------------------------------


class Model(Section):
    """A size of the encoder: which CLIP it starts from and what is added."""

    clip: str
    """CLIP folder in transformers' format (`config.json`, `model.safetensors`, tokenizer)."""
    obtain: str = "a CLIP folder as written by transformers' save_pretrained"
    """How to get the CLIP folder; shown when it is missing."""
    frames: Count = 12
    """Frames per clip (paper: 12)."""
    mask_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of patches hidden in training, the same ones in every frame (tube mask). Paper: 0 (B/32), 0.5 (B/16), 0.7 (H/14)."""
    style: Literal["openai", "openclip"] = "openai"
    """What is normalised and what the sorter sees: `openai` = all tokens after post-LN (B), `openclip` = patches before post-LN (H)."""
    sorter_layers: Annotated[int, Field(ge=0)] = 2
    """Blocks of the transcript sorter."""
    temporal_embedding_std: Annotated[float, Field(ge=0)] | None = None
    """Standard deviation of the initial temporal embedding; none = width^-0.5 (official)."""
    temporal_attention: Literal["official", "random"] = "official"
    """Initial temporal attention; both start at exactly zero. `official` (queries, keys, values zero, output ones) is a saddle: queries
    and keys never get a gradient, so attention over time stays a uniform mean. From `random` (output zero) all of it learns."""


class RunModel(Model):
    """The model of a run: a preset in `models`, with what this run changes of it laid over."""

    preset: str
    """Name in `models`."""


class Text(Section):
    """Which part of the text encoder learns: the paper's question."""

    frozen_blocks: FrozenBlocks = 9
    """Blocks frozen from the bottom. 0 = end-to-end, `all` = the whole text tower. Paper: 9 of 12 (B), 18 of 24 (H)."""
    train_embeddings: bool = True
    """Token and position embeddings learn (official: yes, although the blocks above them are frozen)."""
    train_final: bool = True
    """Final layer norm and text projection learn."""


class Data(Section):
    """What a run is trained on."""

    datasets: Annotated[list[str], Field(min_length=1)]
    """Names in `datasets`."""
    mixing: Literal["joint", "alternating"] = "alternating"
    """`alternating`: an optimiser step per dataset in turn (official); `joint`: the losses are summed in one step."""
    batch_size: Count = 1024
    """Clips per optimiser step and dataset, over all processes."""
    workers: Annotated[int, Field(ge=0)] = 8
    """Loader processes per trainer process and dataset; 0 = the trainer reads by itself."""
    cache_gb: Annotated[float, Field(ge=0)] = 0.0
    """Memory for decoded clips, per trainer process and dataset, shared out among its loader processes; for small corpora that are read
    many times."""
    crop: Rate = 0.836
    """Side of the square random crop as a share of the frame's shorter side (official: 224 of 268)."""
    frame_times: Literal["random", "middle", "keyframe"] = "random"
    """When each of the equal parts of a window is looked at: at a random time (official), in its middle, or at the keyframe nearest to a
    random time, which takes less than half the decoding."""
    pixels: Literal["official", "clip"] = "official"
    """Statistics that normalise frames: `official` = ImageNet's, `clip` = CLIP's."""
    max_corrupt_share: Share = 0.01
    """Training stops when more samples than this cannot be read."""


class Objective(Section):
    """The losses and their weights."""

    temperature: Positive = 0.05
    """Cosines are divided by this before the contrastive loss (paper: 0.05, fixed)."""
    contrastive_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the gradient-correct contrastive loss. The official code's effective value is 1 / number of GPUs."""
    sorting_weight: Annotated[float, Field(ge=0)] = 2.0
    """Weight of the transcript sorting loss (official: 2); 0 trains without sorting."""


class Optim(Section):
    """AdamW with the official parameter groups."""

    lr_new: Rate = 1.0e-4
    """Learning rate of the parts CLIP does not have (temporal attention, its norm, the sorter)."""
    lr_clip: Rate = 1.0e-7
    """Learning rate of everything that comes from CLIP."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """Of all but biases and norms."""
    betas: Annotated[list[Share], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    """Decay of the first and second moments."""
    eps: Positive = 1.0e-8
    """Official optimiser: 1e-6."""
    temporal_embedding_group: Literal["new", "clip"] = "clip"
    """The group, and so the learning rate, of the temporal embedding. Official: clip, which leaves it almost as initialised."""
    clip_gradient: Positive | None = None
    """Largest gradient norm; none = no clipping (official)."""
    schedule: Literal["step", "cosine"] = "step"
    """`step`: times 0.1 after `milestones` epochs (official); `cosine`: to zero at the end."""
    milestones: list[Count] = [6, 8]
    """Epochs after which `step` lowers the rates."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps over which the rates rise linearly at the start."""


class Train(Section):
    """Length, precision and saving of a run."""

    epochs: Count = 10
    """Length of the training (paper: 10)."""
    steps_per_epoch: Count | None = None
    """Optimiser steps that count as one epoch; none = one pass over the first dataset (official). With `data.mixing: alternating` each
    other dataset takes as many steps in between."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Arithmetic of the forward and backward pass; weights and moments are fp32."""
    compile: bool = True
    """Compile each block (GPU)."""
    activation_checkpointing: bool = False
    """Keep no activations inside blocks, compute them again in the backward pass: less memory, about a third more work."""
    deterministic: bool = False
    """Equal bits from equal runs on a GPU too, at some cost in speed; on a CPU they are equal anyway."""
    checkpoint_minutes: Positive = 15.0
    """Time between checkpoints: what a killed training loses at most."""
    keep_checkpoints: Count = 2
    """Newest checkpoints that are kept."""
    validate_every: Count | None = None
    """Steps between validations; none = at the end of each epoch."""
    log_every: Count = 10
    """Steps between records in the metrics file."""


class Launch(Section):
    """Where a run trains. Does not change its result and is not part of its identity."""

    nodes: Count = 1
    """Machines, in a SLURM job."""
    gpus: Annotated[int, Field(ge=0)] = 0
    """GPUs, and so processes, per node; 0 = one CPU process."""
    threads: Count = 1
    """CPU cores per process."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Over several processes: `ddp` = each holds the whole model, `fsdp` = each holds a shard of weights, gradients and moments."""
    accumulate: Count = 1
    """Parts in which a process computes its batch, one after another, when memory is short. Gradients are those of the whole batch."""
    mem_mb: Count = 4000
    """Memory per node, MB."""
    minutes: Count = 60
    """Time of one attempt, on a cluster and on your own machine alike: shortly before its end a training saves and stops, and the same
    command continues it."""

    @property
    def processes(self) -> int:
        """Trainer processes: one per GPU, one per node without GPUs."""
        return self.nodes * max(1, self.gpus)


def warning_seconds(minutes: float) -> float:
    """How long before the end of `minutes` a training is asked to save."""
    return min(120, 6 * minutes)


class Run(Section):
    """One encoder: how it is made. A resolved run is frozen to `results/runs/{run}/config.json`."""

    kind: Literal["tvts", "clip", "official"] = "tvts"
    """`tvts`: pre-trained here; `clip`: the CLIP it starts from, frame features averaged (baseline); `official`: a released checkpoint."""
    checkpoint: str | None = None
    """The released checkpoint file, for `official`."""
    seed: int = 0
    """Of new parameters, windows, frames, crops, masks and shuffling."""
    model: RunModel
    """The encoder: a preset and changes to it."""
    text: Text = Text()
    """What of the text encoder learns."""
    data: Data | None = None
    """What it is trained on; needed by `tvts`."""
    objective: Objective = Objective()
    """The losses."""
    optim: Optim = Optim()
    """The optimiser."""
    train: Train = Train()
    """Length, precision, saving."""
    launch: Launch = Launch()
    """Where it trains."""

    @model_validator(mode="after")
    def _complete(self) -> "Run":
        if self.kind == "tvts" and self.data is None:
            raise ValueError("a run of kind tvts needs data.datasets")
        processes = self.launch.processes
        if self.data and self.data.batch_size % (processes * self.launch.accumulate):
            raise ValueError(
                f"data.batch_size: {self.data.batch_size} clips cannot be shared by {processes} processes (launch.nodes x gpus) "
                f"with launch.accumulate = {self.launch.accumulate}; take a multiple of {processes * self.launch.accumulate}"
            )
        if self.kind == "official" and self.checkpoint is None:
            raise ValueError("a run of kind official needs checkpoint, the released file")
        return self


class RunEntry(Section):
    """A run as written in `runs`: its parent and what it changes."""

    extends: str | None = None
    """The run it starts from."""
    set: dict[str, Any] = {}
    """Keys of a run, merged deeply over the parent's."""


class Ablation(Section):
    """One question asked of a run: an axis of overrides, each trained with every seed."""

    run: str
    """Name in `runs`."""
    axis: str | None = None
    """Dotted key of a run, such as `text.frozen_blocks`, that takes each of `values`."""
    values: list[Any] | dict[str, dict[str, Any]]
    """Values of the axis; or, without `axis`, a label -> overrides mapping."""
    seeds: Annotated[list[int], Field(min_length=1)] = [0]
    """Each value is trained once per seed; figures show mean and standard deviation."""
    title: str | None = None
    """Axis label in figures."""

    @model_validator(mode="after")
    def _axis_or_labels(self) -> "Ablation":
        if (self.axis is None) != isinstance(self.values, dict):
            raise ValueError("give either axis and a list of values, or no axis and a mapping label -> overrides")
        return self


# --- evaluation, tracking, site ---------------------------------------------------------------------------------------

Protocol = Literal["retrieval", "recognition", "linear_probe", "multiple_choice"]


class Benchmark(Section):
    """A frozen evaluation: annotations, videos and the protocols that read them."""

    adapter: str
    """Module of `tvts.evaluate.benchmarks` that reads the annotations."""
    annotations: str
    """Annotation file or folder."""
    videos: str
    """Folder of the videos."""
    protocols: Annotated[list[Protocol], Field(min_length=1)]
    """How it is scored."""
    obtain: str = "see the adapter's first lines"
    """How to get the data; shown when it is missing."""
    options: dict[str, Any] = {}
    """Options of the adapter."""


class Evaluation(Section):
    """How frames and scores are computed."""

    pixels: Literal["official", "clip"] = "official"
    """`official`: short side 1.2x, nearest, centre crop, ImageNet statistics; `clip`: bicubic and CLIP's statistics."""
    ties: Literal["mean", "optimistic"] = "mean"
    """Rank of a positive that ties with others; `optimistic` is the official text-to-video rule."""
    prompt: str = "a person {}"
    """Template of class names (official: one template, no article)."""
    dsl_temperature: Positive = 100.0
    """Scale of the dual softmax, reported beside the raw score (CLIP-ViP's formula)."""
    max_missing_share: Share = 0.05
    """An evaluation with more unreadable videos fails."""
    batch_size: Count = 32
    """Videos embedded together."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where encoders run; `auto` = on a GPU if there is one."""


class Media(Section):
    """Reading of our own clips."""

    reader: Literal["pyav", "decord"] = "pyav"
    """Both return the same frames; `tvts bench loader` shows which is faster."""


class Tracking(Section):
    """MLflow."""

    uri: str | None = None
    """Tracking store; none = SQLite at `results/mlflow.db`, written by one local job when results are in. The URL of an MLflow server
    (`http://10.0.0.5:5000`) shows trainings live as well; they never wait for it, and what it missed is sent at the end."""
    experiment: str = "tvtsv2"
    """Name of the MLflow experiment."""


class Resources(Section):
    """What a job of a rule asks for."""

    threads: Count = 1
    """CPU cores."""
    mem_mb: Count = 2000
    """Memory, MB."""
    runtime: Count = 60
    """Time limit on a cluster, minutes."""


class GpuResources(Resources):
    """What a job that can use GPUs asks for."""

    gpus: Annotated[int, Field(ge=0)] = 0
    """GPUs; 0 = none is asked for."""


class Jobs(Section):
    """What a job of each rule asks for. Training asks by `launch` of its run."""

    videos_per_hour: Count = 300
    """YouTube: videos asked for, by all jobs of all corpora together. About 300 is what a guest session is given."""

    plan: Resources = Resources(mem_mb=8000)
    """The list of a corpus, all of it in memory."""
    download: Resources = Resources(threads=2, mem_mb=7000, runtime=240)
    """A shard of videos. Per thread 3 GiB: the limits of its two worker processes."""
    annotations: Resources = Resources(mem_mb=4000, runtime=1440)
    """The index of YT-Temporal's files, made once."""
    transcribe: GpuResources = GpuResources(threads=4, mem_mb=16000, runtime=240)
    """A shard of speech."""
    dataset: Resources = Resources(mem_mb=4000)
    """A shard of windows, and the card of all."""
    embed: GpuResources = GpuResources(threads=4, mem_mb=16000, runtime=240)
    """Frozen features of a run on a benchmark; several GPUs share the videos."""
    score: GpuResources = GpuResources(mem_mb=8000)
    """A score from features. Only linear probes ask for the GPU, and use one."""
    convert: Resources = Resources(mem_mb=16000)
    """A released checkpoint as a model folder."""


class Targets(Section):
    """What `snakemake` without a target builds."""

    runs: list[str] = []
    """Names in `runs`."""
    ablations: list[str] = []
    """Names in `ablations`."""
    benchmarks: list[str] = []
    """Names in `benchmarks`, on which all these are scored."""


class Config(Section):
    """All of `config.yaml`."""

    corpora: dict[str, Corpus]
    """Videos, by name."""
    datasets: dict[str, Dataset]
    """What is made of them to train on."""
    models: dict[str, Model]
    """Sizes of the encoder."""
    runs: dict[str, RunEntry]
    """Encoders to make."""
    ablations: dict[str, Ablation] = {}
    """Questions asked of runs."""
    benchmarks: dict[str, Benchmark] = {}
    """Frozen evaluations."""
    evaluation: Evaluation = Evaluation()
    """How frames and scores of benchmarks are computed."""
    media: Media = Media()
    """Reading of clips."""
    tracking: Tracking = Tracking()
    """Where runs are recorded."""
    resources: Jobs = Jobs()
    """What jobs ask for."""
    targets: Targets
    """What is built."""
    extra_rules: list[str] = []
    """Rule files included after the project's own, relative to the repository."""
    extra: dict[str, Any] = {}
    """Settings of the extra rules, as they please."""
