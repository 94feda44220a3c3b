"""The state and the progress that a run begins with, and where they come from.

A work folder that holds checkpoints is continued; else `resume_from` continues those of
another run, `init_from` takes its weights, and a `Start` brings either from a file that is
not ours. With none of them the run is fresh.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from seqjax import checkpoints as ck
from seqjax.config import Config, ConfigError
from seqjax.data.pipeline import DataState
from seqjax.models import overrides
from seqjax.models.parts.heads import carried
from seqjax.models.parts.heads_config import HEADS
from seqjax.models.protocol import Adopting, Params
from seqjax.training import initial_weights, resuming, sharding
from seqjax.training.checkpoints import Checkpoints
from seqjax.training.optimizers import OptState
from seqjax.training.parts import Parts
from seqjax.training.run_progress import Progress
from seqjax.training.state import TrainState


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """Where a run begins when it is neither fresh nor from one of our checkpoints."""

    params: Params
    """Parameters, host arrays, shaped as the model's."""
    opt_state: OptState | None = None
    """The optimizer's state (None: fresh)."""
    step: int = 0
    data: DataState = DataState()
    composition_epoch: int = 1
    """See `planning.make_plan`."""
    trained: initial_weights.Trained | None = None
    """Its dictionaries, where they are known."""
    seconds: float = 0.0
    """Training time before."""
    partial: bool = False
    """Heads that the model has and these weights have not are drawn, and others left out."""
    lines: Sequence[str] = ()
    """What is to be said of it."""
    assets: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    """Files that checkpoints of the run hold beside the task's own, if its data have the same
    words."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Initial:
    """What a run begins with."""

    progress: Progress
    state: TrainState
    """On the devices."""
    origin: str
    """Lines on where it comes from."""
    assets: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    """Files that checkpoints hold beside the task's own."""


def check(config: Config) -> None:
    """Refuses layers to keep, and things to reset, where no trained model is named that has them.

    Raises:
      ConfigError: naming the keys.
    """
    if config.resume_reset and not config.resume_from:
        raise ConfigError("config.resume_reset: says what config.resume_from leaves behind; "
                          "name the checkpoint there (init_from leaves everything but the weights)")
    if overrides.kept_layers(config.model) and not config.init_from:
        raise ConfigError(
            "config.model.encoder_layers_to_keep, config.model.decoder_layers_to_keep: these are "
            "layers of a trained model; name it in config.init_from (resume_from cannot leave "
            "any out), or set encoder_layers and decoder_layers")
    if config.init_vocabulary == "match" and not config.init_from:
        raise ConfigError(
            "config.init_vocabulary=match: rows are moved when a run begins with the weights of "
            "another; name it in config.init_from (resume_from goes on with its dictionaries)")


def abstract_state(parts: Parts) -> TrainState:
    """Shapes of the state, with where its arrays live."""
    shapes = jax.eval_shape(parts.fresh_state)
    with sharding.own_rules(parts.partition):
        places = sharding.shardings(shapes, parts.mesh)
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, places)


def begin(
    parts: Parts, abstract: TrainState, *, saved: Checkpoints, start: Start | None
) -> Initial:
    """The first state, placed as `abstract` is, and the progress that belongs to it.

    Args:
      saved: checkpoints of the work folder.
      start: weights from elsewhere.

    Raises:
      ConfigError: what is to be continued cannot be read, or is of another model or data.
    """
    config = parts.config
    newest = saved.latest()
    if newest is not None:
        return _continued(newest, parts, abstract, saved=saved)
    if start is not None:
        return _from_start(start, parts, abstract)
    if config.resume_from:
        folder, named = resuming.named(_ours(config.resume_from, "resume_from"))
        return _continued(folder, parts, abstract, saved=saved, fall_back=not named,
                          reset=config.resume_reset)
    if config.init_from:
        return _from_weights(ck.find(_ours(config.init_from, "init_from")), parts, abstract)
    state = jax.jit(parts.fresh_state, out_shardings=_places(abstract))()
    return Initial(progress=Progress(), state=state, origin="starting afresh")


def _continued(
    folder: pathlib.Path, parts: Parts, abstract: TrainState, *, saved: Checkpoints,
    fall_back: bool = True, reset: Sequence[str] = (),
) -> Initial:
    """Another run's checkpoint, or this one's."""

    def with_fresh_optimizer(params: Params) -> TrainState:
        return _with_params(params, parts, abstract)

    found = resuming.read(
        folder, parts.config, abstract, parts.task, store=saved, fall_back=fall_back,
        new_state=with_fresh_optimizer if "optimizer" in reset else None)
    progress = Progress.of(found.record, metric_name=parts.config.valid.metric)
    if "optimizer" in reset:  # updates count from 0 again, and with them all that is of them
        progress = Progress(data=progress.data, seconds=progress.seconds)
    if "dataloader" in reset:
        progress.data = DataState()
    left = f" without its {' and '.join(reset)}" if reset else ""
    own = parts.task.assets()
    more = {name: content for name, content in ck.read_assets(found.folder).items()
            if name not in own}
    return Initial(progress=progress, state=found.state, assets=more, origin="\n".join(
        [f"continuing {found.folder}{left} at update {progress.step}", *found.lines]))


def _from_start(start: Start, parts: Parts, abstract: TrainState) -> Initial:
    config = parts.config
    said: list[str] = []
    if not config.resume_from:
        params, said = _with_heads(start.params, parts, abstract)
        if start.partial:
            params, drawn = _with_parts(params, parts, abstract)
            said = [*said, *drawn]
        start = dataclasses.replace(start, params=params)
    params, lines = initial_weights.of_start(start, config, parts.task)
    state = _with_params(params, parts, abstract)
    if start.opt_state is not None:
        opt_state = _placed(start.opt_state, abstract.opt_state)
        step = jax.device_put(np.int32(start.step), abstract.step.sharding)
        state = dataclasses.replace(state, opt_state=opt_state, step=step)
    return Initial(
        progress=Progress(step=start.step, data=start.data, seconds=start.seconds), state=state,
        assets=start.assets if initial_weights.same(start.trained, parts.task) else {},
        origin="\n".join([f"starting from {config.resume_from or config.init_from} at update "
                          f"{start.step}", *start.lines, *lines, *said]))


def _from_weights(folder: pathlib.Path, parts: Parts, abstract: TrainState) -> Initial:
    read = weights(folder, parts.config)
    found, said = _with_heads(read, parts, abstract)
    # An encoder that the model is made around knows none of its words.
    trained = initial_weights.of_folder(folder) if found.keys() == read.keys() else None
    params, lines = initial_weights.fitted(found, trained, parts.config, parts.task)
    return Initial(progress=Progress(), state=_with_params(params, parts, abstract),
                   origin="\n".join([f"starting from weights of {folder}", *lines, *said]))


def _with_heads(
    params: Params, parts: Parts, abstract: TrainState
) -> tuple[Params, list[str]]:
    """Weights with the classification heads of this run, new where they have none like them; and
    a line on that. Those of a pretrained encoder in the place where the model has it."""
    if isinstance(parts.model, Adopting) and params.keys() != abstract.params.keys():
        key = jax.random.key(parts.config.seed, impl="threefry2x32")
        fresh = jax.device_get(jax.jit(lambda: parts.model.init(key))())
        return parts.model.adopt(params, fresh), [
            "the encoder is the pretrained one's; what stands behind it is new"]
    fresh = {}
    if HEADS in abstract.params:
        key = jax.random.key(parts.config.seed, impl="threefry2x32")
        fresh = jax.device_get(jax.jit(lambda: parts.model.init(key)[HEADS])())
    return carried(params, fresh)


def _with_parts(
    params: Params, parts: Parts, abstract: TrainState
) -> tuple[Params, list[str]]:
    """Weights with the parts of this run's model, new where they have none, without those that it
    has not; and a line on that."""
    new, left = _beside(abstract.params, params), _beside(params, abstract.params)
    if new:
        key = jax.random.key(parts.config.seed, impl="threefry2x32")

        def drawn() -> list[Params]:
            fresh = parts.model.init(key)
            return [functools.reduce(lambda tree, part: tree[part], path, fresh) for path in new]

        for path, value in zip(new, jax.device_get(jax.jit(drawn)()), strict=True):
            params = _put(params, path, value)
    for path in left:
        params = _put(params, path, None)
    said = [f"{what}: {', '.join('.'.join(path) for path in paths)}"
            for what, paths in (("drawn anew", new), ("left out", left)) if paths]
    return params, ["parameters " + "; ".join(said)] if said else []


def _beside(tree: Params, other: Params, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of what a tree has that another one has not."""
    found: list[tuple[str, ...]] = []
    for key, value in tree.items():
        if key not in other:
            found.append((*path, key))
        elif isinstance(value, Mapping) and isinstance(other[key], Mapping):
            found += _beside(value, other[key], (*path, key))
    return found


def _put(tree: Params, path: tuple[str, ...], value: Params | None) -> Params:
    """A tree with something else at a path; None: nothing."""
    first, *inner = path
    rest = {key: child for key, child in tree.items() if key != first}
    if inner:
        return {**rest, first: _put(tree[first], tuple(inner), value)}
    return rest if value is None else {**rest, first: value}


def weights(folder: pathlib.Path, config: Config) -> Params:
    """Parameters of a checkpoint, those of the layers that the configuration keeps."""
    params = ck.read_params(folder, verify=config.checkpoint.verify)
    return overrides.prune(params, overrides.kept_layers(config.model))


def _ours(path: str, key: str) -> str:
    if path.endswith(".pt"):
        raise ConfigError(f"config.{key}: {path} is a fairseq checkpoint; this way of starting "
                          "takes folders of seqjax (python -m seqjax.convert makes one)")
    if path.startswith("hf:") or any(pathlib.Path(path).glob("*.safetensors*")):
        raise ConfigError(f"config.{key}: {path} is a folder of Hugging Face's; python -m "
                          "seqjax.train begins with such, or python -m seqjax.convert makes a "
                          "folder of seqjax of it")
    return path


def _with_params(params: Params, parts: Parts, abstract: TrainState) -> TrainState:
    """A state of given parameters with a fresh optimizer, placed as `abstract` is."""
    ck.check_shapes(params, abstract.params, "the weights to start from")
    placed = _placed(params, abstract.params)
    return jax.jit(parts.state_of, out_shardings=_places(abstract))(placed)


def _placed(tree: sharding.Tree, abstract: sharding.Tree) -> sharding.Tree:
    return jax.tree.map(
        lambda x, a: jax.device_put(np.asarray(x, a.dtype), a.sharding), tree, abstract)


def _places(abstract: sharding.Tree) -> sharding.Tree:
    return jax.tree.map(lambda a: a.sharding, abstract)
