"""Records fairseq's own names and types of everything that a `.pt` of ours says to it.

Needs fairseq (main branch of 2025) and torch; seqjax and its tests need neither. Writes the
table that `seqjax.interop.fairseq.keys` reads:

    python scripts/record_fairseq_keys.py seqjax/interop/fairseq/keys.tsv
    python scripts/record_fairseq_keys.py seqjax/interop/fairseq/keys.tsv --check

One row for every class (`kind` is `class`, `type` its name) and for every key of every
component. `type` is what a value must be: `bool`, `int`, `float`, `str`, `any`, `enum`, or
`list[...]` of one of them; with `?` where None is allowed. It is read from the field of the
component's dataclass, or found by trying what its argparse option makes of a text. With
--check the file is compared, and the script exits with 1 where fairseq has changed.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import inspect
import json
import pathlib
import sys
import typing
from collections.abc import Iterator
from typing import Any

import fairseq
from fairseq.criterions import CRITERION_REGISTRY
from fairseq.dataclass.configs import FairseqConfig
from fairseq.models import ARCH_MODEL_NAME_REGISTRY, ARCH_MODEL_REGISTRY, MODEL_REGISTRY
from fairseq.optim import OPTIMIZER_REGISTRY
from fairseq.optim.lr_scheduler import LR_SCHEDULER_REGISTRY
from fairseq.tasks import TASK_REGISTRY

sys.path.insert(0, str(pathlib.Path(fairseq.__file__).resolve().parents[1] / "examples/data2vec"))
import models.data2vec_audio  # noqa: E402, F401 - what --user-dir examples/data2vec registers

MODELS = ("bart", "roberta", "transformer", "transformer_align", "transformer_lm", "lstm",
          "lstm_lm", "fconv", "fconv_lm", "lightconv", "lightconv_lm", "wav2vec2",
          "hubert", "hubert_ctc", "data2vec_audio", "wav2vec_ctc", "wav2vec_seq2seq",
          "s2t_transformer", "s2t_conformer", "convtransformer", "xm_transformer")
COMPONENTS = {
    "task": (TASK_REGISTRY, (
        "audio_finetuning", "audio_pretraining", "hubert_pretraining",
        "translation", "language_modeling", "masked_lm", "multilingual_masked_lm", "denoising",
        "multilingual_denoising", "sentence_prediction", "sentence_ranking", "span_masked_lm",
        "speech_to_text", "translation_from_pretrained_bart", "translation_multi_simple_epoch")),
    "criterion": (CRITERION_REGISTRY, (
        "cross_entropy", "label_smoothed_cross_entropy", "adaptive_loss",
        "label_smoothed_cross_entropy_with_alignment",
        "label_smoothed_cross_entropy_with_ctc", "masked_lm", "sentence_prediction",
        "sentence_ranking", "wav2vec", "hubert", "ctc", "model")),
    "optimizer": (OPTIMIZER_REGISTRY, ("adam", "nag", "adafactor", "sgd")),
    "lr_scheduler": (LR_SCHEDULER_REGISTRY, (
        "inverse_sqrt", "polynomial_decay", "fixed", "cosine", "tri_stage")),
}
HEADER = ("group", "component", "kind", "key", "type")


def rows() -> Iterator[tuple[str, str, str, str, str]]:
    """The table."""
    for group in ("common", "dataset", "optimization", "checkpoint"):
        cls = FairseqConfig.__dataclass_fields__[group].type
        yield from (("any", group, "key", *row) for row in of_dataclass(cls))
    for group, (registry, names) in COMPONENTS.items():
        for name in names:
            yield group, name, "class", "", registry[name].__name__
            yield from ((group, name, "key", *row) for row in of_component(registry[name]))
    for arch, name in sorted(ARCH_MODEL_NAME_REGISTRY.items()):
        if name in MODELS:
            yield "model", name, "arch", arch, ARCH_MODEL_REGISTRY[arch].__name__
    for name in MODELS:
        yield from (("model", name, "key", *row) for row in of_component(
            MODEL_REGISTRY[name]))


def of_component(cls: Any) -> list[tuple[str, str]]:
    """Keys of a task, a criterion, an optimizer, a schedule or a model."""
    dataclass = getattr(cls, "__dataclass", None)
    if dataclass is not None:
        return of_dataclass(dataclass)
    parser = argparse.ArgumentParser(allow_abbrev=False)
    cls.add_args(parser)
    return sorted((a.dest, of_option(a)) for a in parser._actions if a.dest != "help")


def of_dataclass(cls: Any) -> list[tuple[str, str]]:
    """Keys of one of fairseq's dataclasses."""
    return sorted((f.name, of_annotation(f.type)) for f in dataclasses.fields(cls)
                  if not f.name.startswith("_"))


def of_annotation(annotation: Any) -> str:
    """`int?` of Optional[int]."""
    arguments = typing.get_args(annotation)
    if type(None) in arguments:
        return of_annotation(arguments[0]) + "?"
    if typing.get_origin(annotation) in (list, tuple):
        return f"list[{of_annotation(arguments[0])}]"
    if annotation is Any:
        return "any?"
    if inspect.isclass(annotation) and issubclass(annotation, enum.Enum):
        return "enum"
    return annotation.__name__


def of_option(action: argparse.Action) -> str:
    """The same of an option of argparse, whose values may all be None."""
    if action.nargs == 0:
        return "bool?"
    if action.choices is not None:
        return "enum?"
    if action.type in (None, str, int, float):
        return getattr(action.type, "__name__", "str") + "?"
    if isinstance(tried(action.type, "{'1': '2'}"), dict):
        return "any?"
    found = tried(action.type, "1,2")
    if isinstance(found, list):
        return f"list[{type(found[0]).__name__}]?"
    return type(tried(action.type, "True")).__name__ + "?"


def tried(convert: Any, text: str) -> Any:
    """What an option makes of a text; the text where it does not take it."""
    try:
        return convert(text)
    except (TypeError, ValueError, SyntaxError):
        return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    args = parser.parse_args()
    found = ["\t".join(row) for row in (HEADER, *rows())]
    if not args.check:
        args.file.write_text("\n".join(found) + "\n", encoding="utf-8")
        return
    recorded = args.file.read_text(encoding="utf-8").splitlines()
    differing = sorted(set(found) ^ set(recorded))
    print(json.dumps({"rows": len(found), "differing": differing}, indent=1))
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
