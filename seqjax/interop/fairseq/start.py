"""Training that begins with a fairseq checkpoint: fine-tuning, or going on where it stopped.

    --config.init_from=model.pt       its weights, everything else fresh
    --config.resume_from=model.pt     weights, moments, update count, place in the data
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqjax.checkpoints.checksums import check_finite
from seqjax.config import Config, ConfigError, ModelSection, to_plain
from seqjax.data.pipeline import DataState
from seqjax.interop.fairseq.checkpoint import FairseqCheckpoint, from_tree
from seqjax.interop.fairseq.files import added_words, dictionaries_of, is_pt
from seqjax.interop.fairseq.optimizer_state import read_state, updates
from seqjax.interop.torch.files import read_pt
from seqjax.models.overrides import kept_layers, resolved
from seqjax.models.parts.configs import LAYERS_TO_KEEP
from seqjax.models.parts.heads_config import UNSAID
from seqjax.training.checkpoints import check_config
from seqjax.training.initial_state import Start
from seqjax.training.initial_weights import dictionary_files

_OF_WORDS = ("decoder_", "share_", "adaptive_", "tie_", "max_target", "ctc_weight")
"""What keys of a model begin with on which its encoder does not depend."""


def start_from(config: Config) -> Start | None:
    """Where the run begins, if the configuration names a fairseq checkpoint.

    The place in the data is exact under `batching.mode=fairseq`; under other modes it is
    the same number of batches.

    Raises:
      FileNotFoundError, ConfigError: the file cannot be used; the model, or the optimizer
        to be continued, is another than the configuration's.
    """
    key = "resume_from" if config.resume_from else "init_from"
    path = getattr(config, key)
    if not path or not is_pt(path):
        return None
    if config.resume_from and config.init_from:
        raise ConfigError("config.init_from, config.resume_from: give one of them")
    tree = read_pt(path)
    if not isinstance(tree, dict) or not isinstance(tree.get("model"), dict):
        raise ConfigError(f"config.{key}: {path} is not a fairseq checkpoint: it has no `model`")
    try:
        kept = {LAYERS_TO_KEEP[k]: v for k, v in kept_layers(config.model).items()}
        checkpoint = from_tree(tree, overrides=kept)
        _check_model(checkpoint, config, path, heads=key == "resume_from")
        if config.checkpoint.verify:
            check_finite(checkpoint.params, "its weights")
        found = None if _is_part(checkpoint, config) else dictionaries_of(path, checkpoint)
        trained = None if found is None else dictionary_files(
            path, *found, predicted=checkpoint.target_vocab_size,
            added=added_words(checkpoint, found[0]))
        if key == "init_from":
            return Start(params=checkpoint.params, trained=trained)
        fresh = "optimizer" in config.resume_reset
        opt_state = None if fresh else read_state(
            tree, name=config.optimizer.name, momentum=config.optimizer.momentum)
    except ConfigError as error:
        raise type(error)(f"config.{key}: {path}: {error}") from None
    data = DataState() if "dataloader" in config.resume_reset else place_in_data(tree)
    before = (tree.get("extra_state") or {}).get("previous_training_time") or 0.0
    return Start(params=checkpoint.params, opt_state=opt_state, step=0 if fresh else updates(tree),
                 data=data, composition_epoch=data.epoch, seconds=float(before), trained=trained)


def _is_part(checkpoint: FairseqCheckpoint, config: Config) -> bool:
    """Whether its model is an encoder that the configuration's is made around."""
    return checkpoint.config.name != config.model.name and hasattr(
        config.model, "check_pretrained")


def _check_model(
    checkpoint: FairseqCheckpoint, config: Config, path: str, *, heads: bool
) -> None:
    """Compares what the keys come to: a width that follows another is the same whether it is
    said or not, and so is a last cutoff that is the vocabulary's size.

    Args:
      heads: whether classification heads must be the same; else those are new that the file has
        not.
    """
    if _is_part(checkpoint, config):
        config.model.check_pretrained(checkpoint.config)  # type: ignore[attr-defined]
        return
    sizes = {"adaptive_input_cutoff": checkpoint.source_vocab_size,
             "adaptive_softmax_cutoff": checkpoint.target_vocab_size}

    def compared(section: ModelSection) -> dict[str, Any]:
        plain = to_plain(resolved(section))
        for key in () if heads else UNSAID:
            plain.pop(key, None)
        if config.init_parts == "encoder" and not config.resume_from:
            plain = {k: v for k, v in plain.items() if not k.startswith(_OF_WORDS)}
        if plain.get("share_all_embeddings"):  # which fairseq saves as both, and so is the same
            plain["share_decoder_input_output_embed"] = True
        for key, size in sizes.items():
            cutoffs = plain.get(key)
            if cutoffs and len(cutoffs) > 1 and cutoffs[-1] == size:
                plain[key] = cutoffs[:-1]
        return plain

    check_config({"model": compared(checkpoint.config)}, {"model": compared(config.model)}, path)


def place_in_data(tree: Mapping[str, Any]) -> DataState:
    """Epoch and batches of it that were consumed, as fairseq's iterator says."""
    extra = tree.get("extra_state") or tree  # the first versions had no `extra_state`
    iterator = extra.get("train_iterator") or {
        "epoch": extra.get("epoch", 1), "iterations_in_epoch": extra.get("batch_offset", 0)}
    return DataState(epoch=max(int(iterator.get("epoch", 1)), 1),
                     batch=int(iterator.get("iterations_in_epoch", 0)))
