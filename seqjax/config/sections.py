"""The sections that every run has, with their defaults and what each key means.

The sections `model`, `task` and `loss` are dataclasses that live beside their code; what is
known of all of them are the protocols `ModelSection`, `TaskSection` and `LossSection`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, Protocol


class DataclassInstance(Protocol):
    """What `dataclasses.fields` and `replace` take."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


class Section(DataclassInstance, Protocol):
    """A section that is chosen by name: a frozen dataclass of whatever has that name."""

    @property
    def name(self) -> str:
        """Of one that is here, or `package.module:Object`."""
        ...


class TaskSection(Section, Protocol):
    """What every task's section has."""

    @property
    def data(self) -> str:
        """The folder with the data."""
        ...


class ModelSection(Section, Protocol):
    """What every model's section has. Code of one family takes the family's own."""


class LossSection(Section, Protocol):
    """What every loss's section has. A loss takes its own."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchingConfig:
    """How sentences become batches of a few static shapes."""

    mode: Literal["packed", "bucketed", "fairseq", "fairseq_packed"] = "bucketed"
    """`packed`: several sentences a row, one compiled shape. `bucketed`: one sentence a
    row, a small menu of shapes. `fairseq`: exactly fairseq's batches in its order.
    `fairseq_packed`: fairseq's updates, each packed into rows; the same sums with far less
    padding when `update_freq` is more than 1."""
    max_tokens: int | None = 4096
    """Tokens in one micro-batch of the whole mesh (fairseq's `--max-tokens` times the
    number of its workers), counted on the longer side, padding included."""
    max_sentences: int | None = None
    """Rows in one micro-batch (fairseq's `--batch-size`)."""
    required_batch_size_multiple: int = 8
    """Row counts are multiples of this; a mesh needs a multiple of data*fsdp."""
    num_shapes: int = 8
    """`bucketed`: at most this many (rows, source, target) shapes."""
    pack_length: int = 256
    """`packed`: tokens in a row, on each side."""
    length_multiple: int = 8
    """Padded lengths are multiples of this."""
    skip_invalid_size_inputs_valid_test: bool = False
    """Drop over-long validation sentences (with a count) instead of raising."""
    backend: Literal["auto", "tfdata", "numpy"] = "auto"
    """Who assembles and prefetches training batches; `auto` is tf.data if installed."""
    prefetch: int = 2
    """Batches that are kept ready ahead of the step."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The update (fairseq's `optimization` group)."""

    lr: tuple[float, ...] = (5e-4,)
    """Peak learning rate; several values are one per epoch (`schedule.name=fixed`)."""
    allow_nonpositive_lr: bool = False
    """Let `lr` be 0 or below; without it that is taken for a mistake."""
    max_update: int = 0
    """Stop after this many updates (0: no limit)."""
    max_epoch: int = 0
    """Stop after this many epochs (0: no limit)."""
    stop_time_hours: float = 0.0
    """Stop after this many hours of training, this and earlier runs together (0: no limit)."""
    stop_min_lr: float = -1.0
    """Stop when the learning rate falls to this."""
    update_freq: tuple[int, ...] = (1,)
    """Micro-batches accumulated into one update; several values are one per epoch."""
    clip_norm: float = 0.0
    """Clip the global gradient norm to this (0: off)."""
    sentence_avg: bool = False
    """Normalise gradients by sentences instead of target tokens."""
    compute_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto`: bfloat16 on GPU and TPU, float32 on CPU. Parameters stay float32."""
    nan_patience: int = 0
    """Updates with a non-finite gradient that are skipped before training stops."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Optimizer, with fairseq's names and arithmetic."""

    name: Literal["adam", "nag", "adafactor", "sgd"] = "adam"
    """The rule of the update."""
    adam_betas: tuple[float, float] = (0.9, 0.98)
    """adam: decay of the first and of the second moment."""
    adam_eps: float = 1e-8
    """adam: added to the square root of the second moment, before bias correction."""
    weight_decay: float = 0.0
    """Decoupled, on every parameter, as fairseq does."""
    momentum: float | None = None
    """nag (None: 0.99) and sgd (None: 0)."""
    adafactor_eps: tuple[float, float] = (1e-30, 1e-3)
    """adafactor: added to squared gradients; least scale of a tensor (`scale_parameter`)."""
    clip_threshold: float = 1.0
    """adafactor: threshold of the root mean square of the update."""
    decay_rate: float = -0.8
    """adafactor: exponent of the second moment's decay."""
    beta1: float | None = None
    """adafactor: first moment's decay (None: no first moment)."""
    scale_parameter: bool = False
    """adafactor: a tensor's rate times the root mean square of its values. (With an outer rate
    fairseq multiplies the scales of all tensors so far; this is the rule that it meant.)"""
    relative_step: bool = False
    """adafactor: the rate is 1 / sqrt(updates), 0.01 at most, whatever `train.lr` says."""
    warmup_init: bool = False
    """adafactor, with `relative_step`: instead of 0.01 at most 1e-6 times the updates so far."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Learning-rate schedule, with fairseq's names and formulas."""

    name: Literal["inverse_sqrt", "polynomial_decay", "fixed", "cosine", "tri_stage"] = (
        "inverse_sqrt"
    )
    """How the rate goes on after its warm-up."""
    warmup_updates: int = 4000
    """Updates in which the rate rises to its peak."""
    warmup_init_lr: float = -1.0
    """Where warm-up starts (negative: 0, but `min_lr` for cosine)."""
    end_learning_rate: float = 0.0
    """polynomial_decay: where it ends."""
    power: float = 1.0
    """polynomial_decay: 1 is a straight line."""
    total_num_update: int = 0
    """polynomial_decay: length in updates (0: `train.max_update`)."""
    force_anneal: int | None = None
    """fixed: shrink the rate every epoch from this epoch on."""
    lr_shrink: float = 0.1
    """fixed, cosine: factor of each annealing."""
    min_lr: float = 0.0
    """cosine."""
    lr_period_updates: float = -1.0
    """cosine: updates of the first period (negative: all after warm-up)."""
    t_mult: float = 1.0
    """cosine: growth of the period."""
    hold_steps: int = 0
    """tri_stage: updates at the peak, after the warm-up."""
    decay_steps: int = 0
    """tri_stage: updates of the exponential decay, after those."""
    phase_ratio: tuple[float, ...] | None = None
    """tri_stage: shares of warm-up, hold and decay in `train.max_update`; sums to 1."""
    init_lr_scale: float = 0.01
    """tri_stage: the warm-up begins at the peak times this."""
    final_lr_scale: float = 0.01
    """tri_stage: the decay ends at the peak times this."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValidConfig:
    """When to validate and what to watch."""

    every_epochs: int = 1
    """At the end of every so many epochs (0: off)."""
    every_updates: int = 0
    """Also every so many updates (0: off)."""
    at_checkpoints: bool = False
    """Also whenever `checkpoint.every_updates` saves, as fairseq does."""
    after_updates: int = 0
    """No validation, and no saving by `checkpoint.every_updates`, before this many updates."""
    subset: str = "valid"
    """Split of the data that is held out."""
    max_batches: int = 0
    """Only the first so many batches (0: all)."""
    decode: bool = True
    """Decode `decode_sentences` of the subset, and report what the task measures of outputs: of
    translations sacreBLEU, `bleu`. Of a task that measures nothing it asks for nothing."""
    decode_sentences: int = 500
    """First so many sentences of the subset (0: all)."""
    samples: int = 2
    """Translations that are shown at each validation."""
    metric: str = "loss"
    """Metric of the best checkpoint and of patience: any that the loss or the task declares: loss,
    nll_loss, ppl, bleu, ..."""
    maximize: bool | None = None
    """Whether a higher metric is better (None: as it is declared: of bleu and accuracy)."""
    patience: int = 0
    """Stop after so many validations without improvement (0: off)."""
    enabled: bool = True
    """False: no validation at all; the split need not be there."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """What is kept in the work folder."""

    every_updates: int = 0
    """Save every so many updates (0: only at validations)."""
    every_epochs: int = 0
    """Save at the end of every so many epochs, and no longer at every validation (0: at every
    validation)."""
    keep_last: int = 2
    """The newest checkpoints kept, of whatever kind; at least one."""
    keep_last_epochs: int = 0
    """Beside them, the newest so many from ends of epochs (-1: all of them)."""
    keep_interval_updates: int = 0
    """Beside them, the newest so many that `every_updates` saved inside an epoch (-1:
    all of them)."""
    keep_best: int = 1
    """Best checkpoints kept, by `valid.metric`."""
    keep_every_updates: int = 0
    """Checkpoints whose update is a multiple of this are kept for good (0: none)."""
    asynchronous: bool = True
    """Write in the background, while training goes on."""
    verify: bool = True
    """Compare what is read from checkpoints with their checksums, and refuse weights that are
    not finite."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Device mesh ('data', 'fsdp', 'tensor'); one axis may be -1: what is left."""

    data: int = -1
    """Groups of devices that each learn from rows of their own."""
    fsdp: int = 1
    """Devices that split parameters and optimizer state, and rows, between them."""
    tensor: int = 1
    """Devices that split the matrix products of each layer between them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogConfig:
    """What people see."""

    interval_updates: int = 100
    """A console line, and numbers in `metrics.jsonl`, every so many updates."""
    interval_seconds: float = 10.0
    """A console line at the latest after this many seconds (0: by updates only)."""
    tensorboard: bool = True
    """Write TensorBoard curves when `tensorboard` is installed."""
    compilation_cache: str | None = "auto"
    """Folder of compiled programs; `auto`: the user's cache folder; None: off."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """Search options, with fairseq's names and defaults."""

    beam: int = 5
    """Hypotheses that are kept of each sentence."""
    nbest: int = 1
    """Hypotheses that are given back of each sentence, `beam` at most."""
    max_len_a: float = 0.0
    """A hypothesis has at most `max_len_a` * source length + `max_len_b` tokens."""
    max_len_b: int = 200
    """See `max_len_a`."""
    min_len: int = 1
    """Hypothesis tokens (eos included) before which eos is not allowed."""
    lenpen: float = 1.0
    """Scores are divided by length to this power: above 1 favours long hypotheses."""
    unkpen: float = 0.0
    """Subtracted from the log-probability of the unknown word."""
    temperature: float = 1.0
    """Scores are divided by this before the softmax: below 1 sharpens it."""
    lm_weight: float = 0.0
    """What log-probabilities of a language model are multiplied by (with `--lm-path`)."""
    unnormalized: bool = False
    """Do not divide scores by length."""
    match_source_len: bool = False
    """Hypotheses are as long as their source."""
    no_repeat_ngram_size: int = 0
    """No so many tokens in a row come twice in a hypothesis (0: off)."""
    prefix_size: int = 0
    """Force this many tokens of the reference (generate with a data folder), `first_tokens`
    counted where the reference begins with them."""
    bos_token: int | None = None
    """Id of the token that stands before an output's first one (None: the task's, eos as a rule;
    fairseq's `bos_token` of a generator, `decoder_start_token_id` elsewhere). Of this search
    alone: what a model is trained and scored with is the task's."""
    first_tokens: tuple[int, ...] | None = None
    """Ids that every output begins with, before its prefix (None: the task's: nothing, or a
    language token; `forced_bos_token_id` elsewhere)."""
    sampling: bool = False
    """Draw hypotheses at random instead of searching for the best."""
    sampling_topk: int = -1
    """Draw from the so many likeliest words only (-1: from all)."""
    sampling_topp: float = -1.0
    """Draw from the likeliest words that share this much probability (-1: from all). With
    `rules=transformers` from those of the `sampling_topk` likeliest; else it goes before that."""
    sampling_minp: float = 0.0
    """Draw from words that have at least this share of the likeliest one's probability."""
    diverse_beam_groups: int = -1
    """Groups of hypotheses that avoid each other's words (-1: off)."""
    diverse_beam_strength: float = 0.5
    """What a word costs that a group before has just taken (with `diverse_beam_groups`)."""
    diversity_rate: float = -1.0
    """Siblings penalty."""
    padded_source_len: bool = False
    """Let `max_len_a` multiply the batch's padded source length, as fairseq does, instead
    of each sentence's own; let diverse beams look up a sentence's number among the rows
    of the batch, as it does; and let convolutions over frames of audio see the padding of the
    batch, as its do. With it, results depend on the batch."""
    seed: int = 1
    """Of the samples, with each sentence's number."""
    max_tokens: int = 12000
    """Source tokens of one decoding batch, padding included."""
    batch_size: int | None = None
    """Sentences of one decoding batch at most."""
    rules: Literal["fairseq", "transformers"] = "fairseq"
    """Whose search it is. transformers': the best `beam` of all that finish are kept, and
    `early_stopping` says how long; tokens that are forced cost nothing; a prompt, which outputs
    begin with, counts neither in scores nor in the lengths that these are divided by; padding's
    symbol is a word as others are."""
    early_stopping: Literal["true", "false", "never"] = "false"
    """With `rules=transformers`, when a sentence is done: with `beam` finished hypotheses
    (`true`); when the best unfinished one is no better than the worst of them (`false`), were it
    to end now; or (`never`) at its greatest length, with `lenpen` above 0."""
    force_eos: bool = True
    """Hypotheses of the greatest length end in eos there. False, with `rules=transformers`: they
    are given as they are, as transformers does without `forced_eos_token_id`."""
    suppress_tokens: tuple[int, ...] = ()
    """Ids that no output has, unless they are forced."""
    begin_suppress_tokens: tuple[int, ...] = ()
    """Ids that are not the first that is chosen, behind what is forced."""
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    """Ids in a row that no output has, two or more each: `[[5, 6], [7, 8, 9]]`."""
    repetition_penalty: float = 1.0
    """What the scores of tokens that an output has, what it begins with included, are divided by,
    negative ones multiplied: log-probabilities in a beam search, logits with `beam=1` and in
    sampling, as transformers has it."""
    encoder_repetition_penalty: float = 1.0
    """What the scores of the source's tokens are multiplied by likewise (negative ones divided);
    of a language model, of the prompt's."""
    encoder_no_repeat_ngram_size: int = 0
    """No so many tokens in a row of the source, or of the prompt (0: off)."""
    exponential_decay_length_penalty: tuple[int, float] | None = None
    """Generated tokens behind which eos becomes likelier, and the factor: its score grows by
    its size times factor ** (tokens beyond) - 1."""
    renormalize_logits: bool = False
    """Log-probabilities are normalised again behind penalties and bans."""
    min_new_tokens: int = 0
    """Tokens beyond the prompt before which eos is not allowed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """One training run, resolved: every key has its value."""

    task: TaskSection
    """A dataclass of `seqjax.tasks.CONFIGS`, chosen by `task.name`."""
    model: ModelSection
    """A dataclass of `seqjax.models.CONFIGS`, chosen by `model.name` or `model.arch`."""
    loss: LossSection
    """A dataclass of `seqjax.losses.CONFIGS`, chosen by `loss.name`."""
    seed: int = 1
    """Of the first parameters, the order of the data and dropout."""
    init_from: str | None = None
    """Start from these weights, with a fresh optimizer (fine-tuning): a work folder or checkpoint
    of ours, fairseq's `.pt`, a folder of Hugging Face's or `hf:org/name`, of which the model is
    the folder's."""
    init_parts: Literal["all", "encoder"] = "all"
    """What of `init_from` is taken. `encoder`: only the encoder of a model of recordings; what
    stands behind it, and all that belongs to words, begins anew, so that its dictionary may be
    another (fairseq's `--load-pretrained-encoder-from`: recognition before translation)."""
    init_vocabulary: Literal["same", "match"] = "same"
    """`init_from` whose dictionaries are not the data's: `same`: refused. `match`: embedding
    rows are moved by symbol; words that the weights do not know begin as in a fresh model."""
    resume_from: str | None = None
    """Continue another run's checkpoint: weights, optimizer, schedule, place in the data."""
    resume_reset: tuple[Literal["optimizer", "dataloader"], ...] = ()
    """What `resume_from` leaves behind: `optimizer` begins with fresh moments and at update 0
    of the schedule, `dataloader` with the first batch of epoch 1."""
    train: TrainConfig = TrainConfig()
    """See `TrainConfig`."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """See `OptimizerConfig`."""
    schedule: ScheduleConfig = ScheduleConfig()
    """See `ScheduleConfig`."""
    batching: BatchingConfig = BatchingConfig()
    """See `BatchingConfig`."""
    valid: ValidConfig = ValidConfig()
    """See `ValidConfig`."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """See `CheckpointConfig`."""
    mesh: MeshConfig = MeshConfig()
    """See `MeshConfig`."""
    log: LogConfig = LogConfig()
    """See `LogConfig`."""
    generation: GenerationConfig = GenerationConfig()
    """Of the translations that a validation makes, and the default of commands. See
    `GenerationConfig`."""
