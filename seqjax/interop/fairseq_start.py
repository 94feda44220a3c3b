"""Training that begins with a fairseq checkpoint: fine-tuning, or going on where it stopped.

    --config.init_from=model.pt       its weights, everything else fresh
    --config.resume_from=model.pt     weights, moments, update count, place in the data
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqjax.config import Config, ConfigError, to_plain
from seqjax.data.pipeline import DataState
from seqjax.interop.fairseq_files import is_pt
from seqjax.interop.fairseq_weights import from_tree
from seqjax.interop.optimizer_state import read_state, updates
from seqjax.interop.torch_pickle import read_pt
from seqjax.models.overrides import kept_layers
from seqjax.models.transformer_config import LAYERS_TO_KEEP
from seqjax.training.checkpoints import check_config
from seqjax.training.train_loop import Start

_FREE = ("max_source_positions", "max_target_positions", "decoder_input_dim",
         "decoder_output_dim", *LAYERS_TO_KEEP.values())
"""Keys of the model section that may differ where the weights' shapes agree."""


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
        _check_model(checkpoint.config, config, path)
        if key == "init_from":
            return Start(params=checkpoint.params)
        fresh = "optimizer" in config.resume_reset
        opt_state = None if fresh else read_state(tree, name=config.optimizer.name)
    except ConfigError as error:
        raise type(error)(f"config.{key}: {path}: {error}") from None
    data = DataState() if "dataloader" in config.resume_reset else place_in_data(tree)
    before = (tree.get("extra_state") or {}).get("previous_training_time") or 0.0
    return Start(params=checkpoint.params, opt_state=opt_state, step=0 if fresh else updates(tree),
                 data=data, composition_epoch=data.epoch, seconds=float(before))


def _check_model(theirs: Any, config: Config, path: str) -> None:
    def compared(section: Any) -> dict[str, Any]:
        plain = to_plain(section)
        return {k: v for k, v in plain.items() if k not in _FREE}

    check_config({"model": compared(theirs)}, {"model": compared(config.model)}, path)


def place_in_data(tree: Mapping[str, Any]) -> DataState:
    """Epoch and batches of it that were consumed, as fairseq's iterator says."""
    iterator = (tree.get("extra_state") or {}).get("train_iterator") or {}
    return DataState(epoch=int(iterator.get("epoch", 1)),
                     batch=int(iterator.get("iterations_in_epoch", 0)))
