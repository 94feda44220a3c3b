"""What a file says to fairseq has fairseq's own names and types, as they were recorded."""

from __future__ import annotations

import dataclasses
import itertools
import typing

import pytest

from seqjax import hub, losses, models, tasks
from seqjax.config import ConfigError, OptimizerConfig, ScheduleConfig, to_plain
from seqjax.interop.fairseq import folder as fairseq_folder
from seqjax.interop.fairseq import keys as fairseq_keys
from seqjax.interop.fairseq.export import namespace
from seqjax.models.overrides import resolved

CLASSES = {"int": int, "float": float, "str": str, "enum": str, "bool": bool}
SMALL = {
    "lstm": {"adaptive_softmax_cutoff": (10, 20)}, "lstm_lm": {"adaptive_softmax_cutoff": (10,)},
    "fconv_lm": {"adaptive_softmax_cutoff": (10, 20)},
    "transformer": {"adaptive_softmax_cutoff": (10, 20)},
    "transformer_lm": {"adaptive_softmax_cutoff": (10, 20), "adaptive_input": True,
                       "adaptive_input_cutoff": (10, 20)},
    "lightconv_lm": {"adaptive_softmax_cutoff": (10, 20), "adaptive_input": True,
                     "adaptive_input_cutoff": (10, 20)},
}
WITHOUT_OPTION = {"scale_attn", "scale_fc", "scale_heads", "scale_resids", "decoder_input_dim",
                  "decoder_output_dim", "decoder_conv_dim", "no_token_positional_embeddings",
                  "encoder_learned_pos", "no_scale_embedding", "no_decoder_final_norm",
                  "decoder_layerdrop", "decoder_learned_pos", "adaptive_softmax_cutoff",
                  "adaptive_softmax_dropout", "adaptive_softmax_factor",
                  # of the task's config.yaml and of the criterion
                  "input_feat_per_channel", "input_channels", "ctc_weight"}
"""Keys that fairseq's code reads from the Namespace of models that have no option for them."""


NESTED = {"xm_transformer": "wav2vec2"}
"""Families whose files have the keys of another model in `w2v_args`."""
REGISTERED = {"mbart": "bart", "m2m": "transformer", "fsmt": "transformer",
              "xglm": "transformer_lm", "opt": "transformer_lm"}
"""Families whose files name a model of fairseq's of another name."""
FOR_FAIRSEQ = [name for name, family in models.FAMILIES.items() if family.fairseq is not None]


@pytest.mark.parametrize(("family", "changes"), [
    ("transformer", {"layer_norm_eps": 1e-12}), ("transformer", {"output_bias": True}),
    ("transformer_lm", {"position_offset": 0}), ("opt", {"linear_bias": False}),
    ("m2m", {"sinusoid_spacing": "exclusive"}), ("roberta", {"layer_norm_eps": 1e-12}),
    ("mbart", {"pad_begins": True}), ("xglm", {"position_offset": 2})])
def test_a_model_of_other_switches_is_not_for_fairseq(family, changes):
    (key,) = changes
    with pytest.raises(ConfigError, match=f"{key}={changes[key]!r}.*cannot be given to fairseq"):
        namespace(models.CONFIGS[family](**changes), {})


def test_a_family_that_fairseq_does_not_have_is_said_to_be_none_of_it():
    for family in models.FAMILIES.keys() - set(FOR_FAIRSEQ):
        with pytest.raises(ConfigError, match=f"fairseq has no model {family!r}"):
            namespace(models.CONFIGS[family](), {})


def fits(value: object, kind: str) -> bool:
    """Whether fairseq takes a value for a key of a type."""
    if value is None:
        return kind.endswith("?")
    kind = kind.removesuffix("?")
    if kind.startswith("list["):
        return isinstance(value, list) and all(fits(v, kind[5:-1]) for v in value)
    return kind == "any" or type(value) is CLASSES[kind]


def names(config: type) -> tuple[str, ...]:
    return typing.get_args(typing.get_type_hints(config)["name"])


def architectures():
    """fairseq's named architectures for models that are here -> the model's name."""
    return {row[3]: row[1] for row in fairseq_keys._rows() if row[2] == "arch"}


def test_everything_that_is_here_has_a_name_in_fairseq():
    for group, ours in {
            "criterion": losses.CONFIGS, "task": tasks.fairseq_names(),
            "optimizer": names(OptimizerConfig), "lr_scheduler": names(ScheduleConfig)}.items():
        assert set(fairseq_keys.classes(group)) == set(ours)
    for arch, (family, _) in models.ARCHS.items():
        assert architectures()[arch] == REGISTERED.get(family, family)
    assert fairseq_keys.classes("criterion") == {
        "cross_entropy": "CrossEntropyCriterion",
        "label_smoothed_cross_entropy": "LabelSmoothedCrossEntropyCriterion",
        "label_smoothed_cross_entropy_with_alignment":
            "LabelSmoothedCrossEntropyCriterionWithAlignment",
        "adaptive_loss": "AdaptiveLoss", "masked_lm": "MaskedLmLoss",
        "sentence_prediction": "SentencePredictionCriterion",
        "sentence_ranking": "SentenceRankingCriterion",
        "label_smoothed_cross_entropy_with_ctc": "LabelSmoothedCrossEntropyWithCtcCriterion",
        "wav2vec": "Wav2vecCriterion", "hubert": "HubertCriterion", "ctc": "CtcCriterion",
        "model": "ModelCriterion"}
    assert fairseq_keys.classes("optimizer") == {
        "adam": "FairseqAdam", "nag": "FairseqNAG", "sgd": "SGD", "adafactor": "FairseqAdafactor"}


def test_components_agree_about_the_keys_that_they_share():
    groups = [[(group, name) for name in fairseq_keys.classes(group)]
              for group in ("task", "criterion", "optimizer", "lr_scheduler")]
    groups.append([("model", name) for name in models.CONFIGS])
    parts = [(group, name) for name in ("common", "dataset", "optimization", "checkpoint")
             for group in ["any"]]
    for (a, b) in itertools.combinations([[p] for p in parts] + groups, 2):
        for one, other in itertools.product(a, b):
            first, second = fairseq_keys.types(*one), fairseq_keys.types(*other)
            for key in first.keys() & second.keys():
                kinds = {first[key].rstrip("?"), second[key].rstrip("?")}
                if key == "ddp_backend" or (key == "mask_length" and other[0] == "model"):
                    continue  # of spans of frames; what tasks of text call so is a kind of span
                # fairseq makes a whole number of a float and the other way round itself.
                assert len(kinds) == 1 or kinds == {"int", "float"}, (key, one, other, kinds)


@pytest.mark.parametrize("family", FOR_FAIRSEQ)
@pytest.mark.parametrize("changed", [False, True])
def test_a_models_keys_are_fairseqs(family, changed):
    config = models.CONFIGS[family](**(SMALL.get(family, {}) if changed else {}))
    args = namespace(config, {"criterion": "cross_entropy"})
    there = REGISTERED.get(family, family)
    assert fairseq_keys.model_of(args["arch"]) == there
    kinds = fairseq_keys.chosen_types({"model": there, "criterion": args["criterion"]})
    wrong = {k: v for k, v in args.items() if k in kinds and not fits(v, kinds[k])}
    assert not wrong
    stated = {k for k in to_plain(resolved(config)) if k in fairseq_keys.types("model", there)}
    if family in NESTED:
        inner = vars(models.fairseq_table(family).nest(config, args)["w2v_args"])
        stated -= {k for k in inner if inner[k] == getattr(config, k, None)}
    assert {k for k in stated if getattr(resolved(config), k) is not None} <= set(args)
    if changed and family in SMALL:
        assert args["criterion"] == "adaptive_loss"
        lists = fairseq_keys.types("model", family)["adaptive_softmax_cutoff"] == "list[int]?"
        assert args["adaptive_softmax_cutoff"] in (["10", "10,20"] if not lists else [[10, 20]])


@pytest.mark.parametrize("family", FOR_FAIRSEQ)
def test_keys_that_fairseq_does_not_have_change_no_weight(family):
    """A key of ours that is not in fairseq's table would be lost on the way."""
    own = {f.name for f in dataclasses.fields(models.CONFIGS[family])} - {"name", "arch"}
    of_tasks = {k for name in tasks.CONFIGS for k in fairseq_keys.types("task", name)}
    there = REGISTERED.get(family, family)
    lost = own - set(fairseq_keys.types("model", there)) - of_tasks
    if family in NESTED:
        lost -= set(fairseq_keys.types("model", NESTED[family]))
    known = {*models.fairseq_table(family).unsaid, "remat", "scan_unroll", "time_unroll",
             "short_batch_softmax", "encoder_layers_to_keep", "decoder_layers_to_keep"}
    assert lost <= known | WITHOUT_OPTION


def test_an_lstms_attention_is_text():
    assert namespace(models.CONFIGS["lstm"](), {})["decoder_attention"] == "True"
    off = namespace(models.CONFIGS["lstm"](decoder_attention=False), {})
    assert off["decoder_attention"] == "False"


def test_widths_of_a_language_model_are_said():
    """Its dataclass has 512 where nothing is said, whatever the model's width is."""
    args = namespace(models.CONFIGS["transformer_lm"](decoder_embed_dim=16), {})
    assert args["decoder_input_dim"] == args["decoder_output_dim"] == 16


def test_an_architecture_that_fairseq_would_change_is_not_named():
    cls = models.CONFIGS["transformer_lm"]
    small = namespace(cls(arch="transformer_lm_gpt", decoder_normalize_before=True), {})
    assert small["arch"] == "transformer_lm_gpt"
    assert namespace(cls(arch="transformer_lm_gpt"), {})["arch"] == "transformer_lm"


def test_a_language_model_with_scales_is_not_for_fairseq():
    config = models.CONFIGS["transformer_lm"](scale_attn=True, scale_resids=True)
    with pytest.raises(ConfigError, match="scale_attn, scale_resids"):
        namespace(config, {})
    assert namespace(models.CONFIGS["transformer"](scale_attn=True), {})["scale_attn"] is True


@pytest.mark.parametrize("task", [
    "translation", "language_modeling", "translation_from_pretrained_bart",
    "translation_multi_simple_epoch"])
@pytest.mark.parametrize("schedule", names(ScheduleConfig))
@pytest.mark.parametrize("optimizer", names(OptimizerConfig))
def test_the_rest_of_a_run_has_fairseqs_types(task, schedule, optimizer):
    languages = {
        "translation": {"source_lang": "a", "target_lang": "b"},
        "translation_from_pretrained_bart": {
            "source_lang": "a", "target_lang": "b", "langs": ["a", "b"]},
        "translation_multi_simple_epoch": {"lang_pairs": ["a-b", "b-a"], "langs": ["a", "b"]},
    }.get(task, {})
    config = hub.resolve({
        "task": {"name": task, **languages},
        "optimizer": {"name": optimizer}, "schedule": {"name": schedule},
        "train": {"max_update": 100}, "loss": {"name": "cross_entropy"},
        **({"model": {"arch": "transformer_lm"}} if task == "language_modeling" else {})})
    theirs = tasks.entry_of(task).fairseq
    assert theirs is not None
    extra_args = fairseq_folder._extra_args(config, theirs)
    args = namespace(config.model, extra_args)
    kinds = fairseq_keys.chosen_types({
        "task": task, "optimizer": optimizer, "lr_scheduler": schedule,
        "criterion": "cross_entropy", "model": config.model.name})
    assert not {k: (v, kinds[k]) for k, v in args.items() if k in kinds and not fits(v, kinds[k])}
    unknown = set(args) - set(kinds) - {
        "arch", "task", "criterion", "optimizer", "lr_scheduler", "tokenizer", "bpe",
        "left_pad_source", "left_pad_target"}
    assert unknown <= {"max_source_positions", "max_target_positions"} | WITHOUT_OPTION
    if task == "language_modeling":
        assert args["shorten_data_split_list"] == ""


def test_values_of_another_fairseq_are_kept():
    spelled = fairseq_keys.spelled({"x": "many", "y": None, "z": None, "own": (1,)},
                                   {"x": "int", "y": "int", "z": "int?"})
    assert spelled == {"x": "many", "z": None, "own": (1,)}
