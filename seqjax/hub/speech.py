"""Models of waveforms: from recordings to the hidden states of any layer.

Paths or samples go in, arrays of frames go out; each is what it is alone, whatever else is in
the list.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.config import ConfigError
from seqjax.data.audio.reading import layer_norm
from seqjax.generation import finite
from seqjax.hub import waveforms
from seqjax.hub.loaded import Loaded
from seqjax.losses.ctc import frame_log_probs
from seqjax.models.parts.backend import on_cpu
from seqjax.models.parts.stack import layers_apart, layers_stacked
from seqjax.models.protocol import Params, Source, writes

_ON_CPU = 1 << 17
"""Samples of a batch."""
Program = Callable[[Params, np.ndarray, np.ndarray], jax.Array]


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class Speech(Loaded[Any]):
    """A model that reads waveforms.

        m = seqjax.load("hubert_base_ls960.pt")
        m.extract_features("a.wav", layer=9)                    # [frames, 768] float32
        m.extract_features(["a.wav", samples], layer=12)        # a list of these
        m.extract_features(samples, layer=9, final_proj=True)   # [frames, 256]
    """

    def description(self, options: dict[str, Any]) -> list[str]:
        return [*super().description(options), self.prepared_how()]

    def prepared_how(self) -> str:
        """How samples are prepared, in a word."""
        config = self.task.config
        normalised = "normalised" if config.normalize else "as they are"
        return f"samples at {config.sample_rate} Hz, {normalised}"

    def extract_features(
        self, audio: Any, *, layer: int | None = None, final_proj: bool = False
    ) -> Any:
        """Hidden states of recordings, nothing masked, no dropout.

        Args:
          audio: a path; samples [N] in [-1, 1] at the model's rate; or a list of these. Files of
            another rate are resampled, several channels averaged. Waveforms are normalised if
            the model was trained so.
          layer: fairseq's `output_layer`: 1 is the first layer's output, `encoder_layers` the
            last one's; 0: what the first layer reads. None: the last states as the model itself
            uses them, behind the norm that pre-norm models have there.
          final_proj: what HuBERT's `final_proj` makes of them.

        Returns:
          [frames, D] float32 for one recording; a list of them for a list.

        Raises:
          FileNotFoundError: no such file.
          AudioError: a file that is no sound, is empty or cut off.
          ConfigError: several models; a `final_proj` that the model has
            not, or has several of.
          ValueError: a recording too short for a frame, by its number from 0; samples or states
            that are not finite; no such layer.
        """
        model = self._one_model("extract_features")
        last = model.config.encoder_layers
        whole = isinstance(layer, int) and not isinstance(layer, bool)
        if layer is not None and not (whole and 0 <= layer <= last):
            raise ValueError(f"layer: {layer!r}, but there are 1 to {last}, 0 (what the first one "
                             "reads), and None (the last states)")
        if final_proj:
            self._check_projection()
        return self._over(audio, self._program(layer, final_proj), "extract_features")

    def log_probs(self, audio: Any) -> Any:
        """Log-probabilities of symbols at every frame, of a model that was trained to recognise
        them; natural logarithm, blank is number 0.

        Args:
          audio: see `extract_features`.

        Returns:
          [frames, V] float32 for one recording; a list of them for a list.

        Raises:
          ConfigError: a model that recognises no symbols.
        """
        model = self._one_model("log_probs")
        if getattr(model, "features", None) is None or writes(model):
            raise ConfigError(f"log_probs: models of {model.config.name!r} say no symbols of "
                              "frames; extract_features gives their states")
        return self._over(audio, self._scores(), "log_probs")

    # ---- recordings to rows of frames ----

    def _over(self, audio: Any, program: Program, what: str) -> Any:
        single = waveforms.is_one(audio)
        rows = [self._samples(one, f"audio[{i}]")
                for i, one in enumerate([audio] if single else audio)]
        found: list[Any] = [None] * len(rows)
        for places, values in self._frames(rows, program):
            for row, place in zip(values, places, strict=True):
                finite.check_scores(row, f"{what}: audio[{place}]")
                found[place] = row
        return found[0] if single else found

    def _samples(self, audio: Any, name: str) -> np.ndarray:
        config = self.task.config
        samples = waveforms.read(audio, name=name, sample_rate=config.sample_rate)
        field = self.models[0].receptive_field
        if len(samples) < field:
            raise ValueError(f"{name}: has {len(samples)} samples, but this model's first frame "
                             f"needs {field} at {config.sample_rate} Hz")
        if not config.normalize:
            return samples
        return layer_norm(samples, eps=getattr(config, "normalize_eps", 1e-5))

    def _frames(
        self, rows: list[np.ndarray], program: Program
    ) -> Iterator[tuple[list[int], list[np.ndarray]]]:
        model, params = self.models[0], self._pass_params()
        # Rows side by side make a CPU no faster, and rows that are all padding cost as any other.
        at_once = _ON_CPU if on_cpu() else waveforms.BATCH_SAMPLES
        for places, samples, real in waveforms.batches(rows, at_once=at_once):
            out = np.asarray(program(params, samples, real))
            yield places, [out[i, : model.frames(len(rows[place]))].copy()
                           for i, place in enumerate(places)]

    # ---- programs ----

    def _one_model(self, what: str) -> Any:
        model, *others = self.models
        if others:
            raise ConfigError(f"{what}: the states of an ensemble are not defined: load one "
                              "checkpoint")
        return model

    def _check_projection(self) -> None:
        model = self.models[0]
        project = getattr(model, "final_proj", None)
        try:
            if project is None:
                raise ValueError(f"models of {model.config.name!r} have none to use")
            jax.eval_shape(
                project, self.params[0],
                jax.ShapeDtypeStruct((1, model.config.encoder_embed_dim), jnp.float32))
        except ValueError as error:
            raise ConfigError(f"final_proj: {str(error).removeprefix('final_proj: ')}") from None

    def _kept(self, key: Any, make: Callable[[], Callable[..., Any]]) -> Program:
        """A compiled pass of these models, begun anew where models were replaced."""
        kept = self.__dict__
        if kept.get("_program_models") is not self.models:
            kept["_program_models"], kept["_programs"] = self.models, {}
        programs: dict[Any, Program] = kept["_programs"]
        if key not in programs:
            programs[key] = jax.jit(make())
        return programs[key]

    def _pass_params(self) -> Params:
        """The parameters as passes over whole rows read them fastest; kept for the next call."""
        params, kept = self.params[0], self.__dict__
        if getattr(self.models[0].config, "scan_unroll", 0):
            return params
        if kept.get("_read_from") is not params:
            kept["_read_from"], kept["_apart"] = params, layers_apart(params)
        return kept["_apart"]

    def _program(self, layer: int | None, final_proj: bool) -> Program:
        model = self.models[0]

        def run(params: Params, samples: jax.Array, real: jax.Array) -> jax.Array:
            params = layers_stacked(params)
            states = model.layer_states(
                params, Source(values=samples, mask=real, isolated=True), layer=layer).out
            states = model.final_proj(params, states) if final_proj else states
            return states.astype(jnp.float32)

        return self._kept((layer, final_proj), lambda: run)

    def _scores(self) -> Program:
        model = self.models[0]

        def run(params: Params, samples: jax.Array, real: jax.Array) -> jax.Array:
            params = layers_stacked(params)
            encoded = model.encode(
                params, Source(values=samples, mask=real, isolated=True))
            return frame_log_probs(model.features(params, encoded).logits(), encoded.mask)

        return self._kept("log_probs", lambda: run)
