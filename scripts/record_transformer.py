"""Records tiny transformers of fairseq's, in the forms that its checkpoints have had.

Needs fairseq (main branch of 2025), torch and omegaconf; seqjax and its tests need none of
them. Writes NAME/checkpoint.pt and NAME/forward.npz, as `check_goldens.py` reads them:

    python scripts/record_transformer.py record tests/goldens/transformer [NAME ...]
    python scripts/record_transformer.py load FILE.pt     # does fairseq itself load this file?

`forward.npz` has the collated batch (`sample/...`, sources padded on the left), `lprobs`,
`loss` (the criterion's sum) and `grad_norm/PARAMETER`.
"""

from __future__ import annotations

import argparse
import collections
import copy
import pathlib
import re
import sys
import types

import numpy as np
import torch
from fairseq import checkpoint_utils, options
from fairseq.criterions.adaptive_loss import AdaptiveLoss
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models.transformer import TransformerModel, TransformerModelBase
from fairseq.models.transformer.transformer_config import TransformerConfig
from omegaconf import OmegaConf

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
import packed

_SMALL = ("--encoder-embed-dim 8 --encoder-ffn-embed-dim 12 --encoder-layers 2"
          " --encoder-attention-heads 2 --decoder-layers 2 --decoder-attention-heads 2"
          " --max-source-positions 20 --max-target-positions 20 ")
CASES = {
    "postnorm": (_SMALL, "cfg"),
    "prenorm_shared": (
        _SMALL + "--encoder-normalize-before --decoder-normalize-before --share-all-embeddings"
        " --encoder-learned-pos --decoder-learned-pos --layernorm-embedding --no-scale-embedding"
        " --activation-fn gelu", "cfg"),
    "odd": (
        _SMALL + "--decoder-embed-dim 12 --decoder-ffn-embed-dim 10 --decoder-output-dim 14"
        " --decoder-attention-heads 3 --encoder-layers 3"
        " --decoder-layers 1 --no-token-positional-embeddings --activation-fn tanh"
        " --decoder-normalize-before --no-decoder-final-norm decoder_input_dim=6", "cfg"),
    "merged": (
        _SMALL + "--merge-src-tgt-embed --decoder-learned-pos --encoder-normalize-before"
        " --activation-fn gelu_accurate", "structured"),
    "normformer": (
        _SMALL + "--decoder-normalize-before scale_attn=1 scale_fc=1 scale_heads=1"
        " scale_resids=1", "cfg"),
    "adaptive": (
        _SMALL + "--adaptive-softmax-cutoff 7,12 decoder_output_dim=16 --encoder-learned-pos"
        " --adaptive-softmax-factor 2 --criterion adaptive_loss --ddp-backend legacy_ddp", "cfg"),
    "cross_self": (
        _SMALL + "--cross-self-attention --no-cross-attention --decoder-normalize-before", "cfg"),
    "cross_self_both": (
        _SMALL + "--cross-self-attention --share-decoder-input-output-embed", "structured"),
    "cross_self_scaled": (
        _SMALL + "--cross-self-attention --encoder-normalize-before scale_heads=1", "cfg"),
    "no_cross_attention": (
        _SMALL + "--no-cross-attention --share-decoder-input-output-embed"
        " --activation-fn linear", "cfg"),
    "pruned": (
        _SMALL + "--encoder-layers 3 --decoder-layers 3 encoder_layers_to_keep=2,0"
        " decoder_layers_to_keep=0,2", "cfg"),
    "old": (_SMALL + "--share-decoder-input-output-embed", "0.5"),
    "old_prenorm": (
        _SMALL + "--encoder-normalize-before --decoder-normalize-before", "0.6"),
    "old_first_prenorm": (
        _SMALL + "--encoder-normalize-before --decoder-normalize-before", "first"),
}
"""name -> (flags, form of the file). `cfg`: today's; `structured`: omegaconf objects, the
model's keys nested by side; `0.5`, `0.6`, `first`: a Namespace, in torch's older format, the
names of the weights as they were then."""
_VERSIONS = {"0.6": 2.0, "first": 1.0}
"""Decoders up to version 2 had no final norm, nor had encoders before it."""


def _criterion(flags: str) -> list[str]:
    if "--criterion" in flags:
        return []
    return ["--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1"]


def parsed(flags: str) -> argparse.Namespace:
    """What fairseq-train makes of the flags; `key=value` sets what has none, or one that it
    stops on (of today's fairseq, those of layers to keep)."""
    parser = options.get_training_parser("translation")
    args = options.parse_args_and_arch(parser, [
        "data", "--arch", "transformer", *_criterion(flags),
        "-s", "de", "-t", "en", "--optimizer", "adam", *(f for f in flags.split() if "=" not in f)])
    for key, value in (f.split("=") for f in flags.split() if "=" in f):
        setattr(args, key, int(value) if value.isdigit() else value)
    return args


def dictionary(entries: int) -> Dictionary:
    """A dictionary of made-up words."""
    result = Dictionary()
    for i in range(entries - len(result)):
        result.add_symbol(f"w{i}")
    return result


def built(args: argparse.Namespace) -> torch.nn.Module:
    """fairseq's model with every parameter moved off its start."""
    joined = args.share_all_embeddings or args.merge_src_tgt_embed
    target = dictionary(19)
    source = target if joined else dictionary(17)
    task = types.SimpleNamespace(source_dictionary=source, target_dictionary=target)
    if args.merge_src_tgt_embed:  # the Namespace form of the model does not know this flag
        return TransformerModelBase.build_model(structured(args), task)
    return TransformerModel.build_model(args, task)


def pruned(args: argparse.Namespace, whole: torch.nn.Module) -> torch.nn.Module:
    """The model that fairseq makes of a file with more layers than are to be kept."""
    args = copy.deepcopy(args)
    model = built(args)
    model.load_state_dict(whole.state_dict(), strict=True, model_cfg=args)
    return model


def structured(args: argparse.Namespace) -> TransformerConfig:
    """The model's configuration as fairseq's dataclass."""
    return TransformerConfig.from_namespace(args)


def sample(source_size: int, target_size: int) -> dict[str, np.ndarray]:
    """Three sentences of different lengths, collated as fairseq does."""
    rng = np.random.default_rng(3)
    source, target, previous = (np.ones((3, n), np.int64) for n in (9, 8, 8))
    for row, (s, t) in enumerate(((9, 6), (7, 8), (3, 2))):
        source[row, -s:] = [*rng.integers(3, source_size, s - 1), 2]
        target[row, :t] = [*rng.integers(3, target_size, t - 1), 2]
        previous[row, :t] = [2, *target[row, :t - 1]]
    return {"sample/net_input/src_tokens": source, "sample/target": target,
            "sample/net_input/prev_output_tokens": previous}


def forward(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """Log-probabilities, loss and gradient norms of one batch, without dropout."""
    batch = sample(model.encoder.embed_tokens.num_embeddings,
                   model.decoder.embed_tokens.num_embeddings)
    tensors = {k.rpartition("/")[2]: torch.tensor(v) for k, v in batch.items()}
    task = types.SimpleNamespace(target_dictionary=types.SimpleNamespace(pad=lambda: 1))
    adaptive = model.decoder.adaptive_softmax is not None
    criterion = (AdaptiveLoss(task, False) if adaptive
                 else LabelSmoothedCrossEntropyCriterion(task, False, 0.1))
    inputs = {"src_tokens": tensors["src_tokens"], "src_lengths": (
        tensors["src_tokens"] != 1).sum(1), "prev_output_tokens": tensors["prev_output_tokens"]}
    model.eval()
    loss, *_ = criterion(model, {
        "net_input": inputs, "target": tensors["target"], "ntokens": int(
            (tensors["target"] != 1).sum())})
    loss.backward()
    with torch.no_grad():
        lprobs = model.get_normalized_probs(
            model(**inputs), log_probs=True, sample={"target": None})
    norms = {f"grad_norm/{k}": v.grad.norm().numpy() for k, v in model.named_parameters()
             if v.grad is not None}  # without attention to the source the encoder has none
    return {**batch, "loss": loss.detach().numpy(), "lprobs": lprobs.numpy(), **norms}


def as_of_old(state: dict, form: str) -> collections.OrderedDict:
    """The names that 0.5 and 0.6 gave to the same weights, and what they saved beside them."""
    result = collections.OrderedDict()
    for name, value in state.items():
        if name.endswith(".version"):
            if form in _VERSIONS:
                result[name] = torch.tensor([_VERSIONS[form]])
            continue
        stacked = re.fullmatch(r"(.*)\.(q|k|v)_proj\.(weight|bias)", name)
        if stacked and form == "0.5":
            parts = [state[f"{stacked[1]}.{p}_proj.{stacked[3]}"] for p in "qkv"]
            result[f"{stacked[1]}.in_proj_{stacked[3]}"] = torch.cat(parts)
            continue
        if form == "0.5":
            norms = ["self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"]
            if name.startswith("encoder"):
                del norms[1]
            for number, norm in enumerate(norms):
                name = name.replace(f".{norm}.", f".layer_norms.{number}.")
        if name == "decoder.output_projection.weight":
            if form in _VERSIONS:
                result["decoder.embed_out"] = value
            continue
        result[name] = value
    for side in ("encoder", "decoder"):
        result[f"{side}.embed_positions._float_tensor"] = torch.tensor([7.0])
    return result


def record(flags: str, form: str, folder: pathlib.Path) -> None:
    """One case."""
    torch.manual_seed(1)
    args = parsed(flags)
    whole = copy.deepcopy(args)
    whole.encoder_layers_to_keep = whole.decoder_layers_to_keep = None
    model = built(whole)
    for value in model.parameters():
        value.data.add_(0.2 * torch.randn_like(value))
        if form == "0.5":
            value.data.copy_(value.data.half())
    cfg = convert_namespace_to_omegaconf(args)
    if form in _VERSIONS:
        model.decoder.layer_norm = None
    if form == "first":
        model.encoder.layer_norm = None
    state: dict = {"args": None, "cfg": None, "model": model.state_dict(), "task_state": {},
                   "extra_state": {"epoch": 3, "val_loss": np.float64(4.5)},
                   "last_optimizer_state": None, "optimizer_history": [{
                       "criterion_name": "LabelSmoothedCrossEntropyCriterion", "num_updates": 7,
                       "optimizer_name": "FairseqAdam", "lr_scheduler_state": {"best": None}}]}
    if form == "cfg":
        state["cfg"] = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    elif form == "structured":
        plain = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
        model_cfg = OmegaConf.structured(structured(args))
        plain["model"] = OmegaConf.to_container(model_cfg, enum_to_str=True)
        plain["model"]["_name"] = "transformer"
        state["cfg"] = OmegaConf.create(plain)
    else:
        state["args"] = args
        state["model"] = as_of_old(state["model"], form)
        if form == "0.5":
            state["model"] = collections.OrderedDict(
                (k, v.half()) for k, v in state["model"].items())
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "checkpoint.pt",
               _use_new_zipfile_serialization=form in ("cfg", "structured"))
    if args.encoder_layers_to_keep:
        model = pruned(args, model)
    np.savez_compressed(folder / "forward.npz", **forward(model))
    packed.pack(folder)
    print(folder, sum(p.stat().st_size for p in folder.iterdir()))


def load(path: str) -> None:
    """Builds the file's model as fairseq does and loads its weights, strictly."""
    state = checkpoint_utils.load_checkpoint_to_cpu(path)
    weights, config = state["model"], state["cfg"].model
    rows = [weights[f"{side}.embed_tokens.weight"].shape[0] for side in ("encoder", "decoder")]
    source, target = dictionary(rows[0]), dictionary(rows[1])
    if getattr(config, "share_all_embeddings", False):
        target = source
    task = types.SimpleNamespace(source_dictionary=source, target_dictionary=target)
    model = TransformerModel.build_model(config, task)
    model.load_state_dict(weights, strict=True, model_cfg=config)
    print(f"fairseq loads {path}: {sum(p.numel() for p in model.parameters())} parameters")


if __name__ == "__main__":
    if sys.argv[1] == "load":
        load(sys.argv[2])
    else:
        for case in sys.argv[3:] or CASES:
            record(*CASES[case], pathlib.Path(sys.argv[2]) / case)
