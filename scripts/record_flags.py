"""Records what fairseq's own parsers accept, where fairseq (and torch) can be imported.

    PYTHONPATH=FAIRSEQ python scripts/record_flags.py

writes `tests/goldens/flags/COMMAND.txt`, every flag of each command with the tasks and models
that are here, against which the table `seqjax/interop/fairseq/flags.tsv` is tested; and
`seqjax/interop/fairseq/names.tsv`, every task, architecture, criterion, ... that fairseq
registers, with the flags that those which are here add to a command line.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def _mutable_defaults_are_allowed() -> None:
    """Python 3.11 refuses dataclasses as defaults in dataclasses, which fairseq has."""
    process = dataclasses._process_class  # type: ignore[attr-defined]

    def patched(cls, *args, **kwargs):
        made = process(cls, *args, **kwargs)
        if made.__hash__ is None:
            made.__hash__ = object.__hash__
        return made

    dataclasses._process_class = patched  # type: ignore[attr-defined]


_mutable_defaults_are_allowed()

import fairseq  # noqa: E402
from fairseq import options  # noqa: E402
from fairseq.dataclass.utils import gen_parser_from_dataclass  # noqa: E402
from fairseq.models import ARCH_MODEL_NAME_REGISTRY, MODEL_REGISTRY  # noqa: E402
from fairseq.optim.bmuf import FairseqBMUF  # noqa: E402
from fairseq.registry import REGISTRIES  # noqa: E402
from fairseq.tasks import TASK_REGISTRY  # noqa: E402
from fairseq_cli import score  # noqa: E402

sys.path.insert(0, str(pathlib.Path(fairseq.__file__).resolve().parents[1] / "examples/data2vec"))
import models.data2vec_audio  # noqa: E402, F401 - what --user-dir examples/data2vec registers

HERE = {
    "task": ("translation", "language_modeling", "masked_lm", "multilingual_masked_lm",
             "denoising", "multilingual_denoising", "sentence_prediction", "sentence_ranking",
             "span_masked_lm", "speech_to_text", "translation_from_pretrained_bart",
             "translation_multi_simple_epoch", "audio_finetuning", "audio_pretraining",
             "hubert_pretraining"),
    "model": ("bart", "convtransformer", "s2t_conformer", "s2t_transformer", "xm_transformer",
              "data2vec_audio", "fconv", "fconv_lm", "hubert", "hubert_ctc", "lightconv",
              "lightconv_lm", "lstm", "lstm_lm", "roberta", "transformer",
              "transformer_align", "transformer_lm", "wav2vec2", "wav2vec_ctc", "wav2vec_seq2seq"),
    "criterion": ("adaptive_loss", "cross_entropy", "ctc", "hubert",
                  "label_smoothed_cross_entropy", "label_smoothed_cross_entropy_with_alignment",
                  "label_smoothed_cross_entropy_with_ctc", "masked_lm", "model",
                  "sentence_prediction", "sentence_ranking", "wav2vec"),
    "simul_type": (),
}
"""Whose flags are recorded; of the registries that are not named, everybody's."""
COMMANDS = {
    "fairseq-train": (options.get_training_parser, ("task", "model", "criterion", "optimizer",
                                                    "lr_scheduler", "bpe", "tokenizer", "scoring")),
    "fairseq-preprocess": (options.get_preprocessing_parser, ()),
    "fairseq-generate": (options.get_generation_parser, ("task", "bpe", "tokenizer", "scoring")),
    "fairseq-interactive": (options.get_interactive_generation_parser,
                            ("task", "bpe", "tokenizer", "scoring")),
    "fairseq-validate": (options.get_validation_parser, ("task", "bpe", "tokenizer")),
    "fairseq-eval-lm": (options.get_eval_lm_parser, ("task", "bpe", "tokenizer")),
}


def described(parser: argparse.ArgumentParser) -> dict[str, str]:
    """First name of each flag -> all its names and how it takes a value."""
    found = {}
    for action in parser._actions:
        if not action.option_strings or "--help" in action.option_strings:
            continue
        kind = ("switch" if isinstance(action, argparse._StoreTrueAction) else
                "off" if isinstance(action, argparse._StoreFalseAction) else
                f"optional={action.const}" if action.nargs == "?" else "value")
        names = sorted(action.option_strings, key=lambda n: (not n.startswith("--"),))
        found[names[0]] = " ".join(names) + "\t" + kind
    return found


def added_by(cls: type) -> dict[str, str]:
    """Flags that one component adds to a command line."""
    parser = argparse.ArgumentParser(conflict_handler="resolve")
    if hasattr(cls, "add_args"):
        cls.add_args(parser)
    elif getattr(cls, "__dataclass", None) is not None:
        gen_parser_from_dataclass(parser, getattr(cls, "__dataclass")())
    return described(parser)


def registries() -> dict[str, dict[str, type]]:
    return {"task": TASK_REGISTRY, "model": MODEL_REGISTRY,
            **{name: entry["registry"] for name, entry in REGISTRIES.items()}}


def main() -> None:
    classes, sys.argv = registries(), sys.argv[:1]
    # Where two tasks take a flag differently, the first one's way is recorded.
    flags = {(kind, name): added_by(found[name]) for kind, found in classes.items()
             for name in HERE.get(kind, found) if name in found}
    folder = ROOT / "tests" / "goldens" / "flags"
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for command, (make, kinds) in COMMANDS.items():
        base = described(make())
        if command == "fairseq-train":
            rows.append(["command", command, "", " ".join(sorted(base))])
            base |= added_by(FairseqBMUF)
        for (kind, _), found in flags.items():
            if kind in kinds:
                base = {**found, **base}
        _write(folder / f"{command}.txt", base.values())
    _write(folder / "fairseq-score.txt", described(score.get_parser()).values())
    rows.append(["switch", "--use-bmuf", "", " ".join(sorted(added_by(FairseqBMUF)))])
    for kind, found in sorted(classes.items()):
        for name in sorted(found):
            rows.append([kind, name, "", " ".join(sorted(flags.get((kind, name), {})))])
    rows += [["arch", name, model, ""] for name, model in sorted(ARCH_MODEL_NAME_REGISTRY.items())]
    _write(ROOT / "seqjax" / "interop" / "fairseq" / "names.tsv",
           ["kind\tname\tmodel\tflags", *("\t".join(row) for row in rows)], in_order=True)


def _write(file: pathlib.Path, lines, in_order: bool = False) -> None:
    lines = list(lines) if in_order else sorted(lines)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{file}: {len(lines)} lines")


if __name__ == "__main__":
    main()
