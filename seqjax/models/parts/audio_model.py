"""What models of waveforms share on the way from a module to `protocol.Encoder`.

Parameters and waveforms come in; states of frames go out. A family says which module, and adds
what it is trained for.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike

from seqjax.models.parts import masking, row_draws
from seqjax.models.parts.audio import Drawn
from seqjax.models.parts.audio_config import frame_count, receptive_field
from seqjax.models.parts.audio_encoder import STATISTICS
from seqjax.models.parts.audio_encoder_config import AudioModelKeys
from seqjax.models.parts.bert_init import bert_init
from seqjax.models.protocol import Encoded, Params, Source

NO_LIMIT = 1 << 24
"""Frames of the longest row, where a family sets no limit."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WaveformModel:
    """`protocol.FrameReader` and `protocol.Layered` over waveforms."""

    config: AudioModelKeys
    compute_dtype: DTypeLike = jnp.float32
    """Type of matrix products and activations; norms, softmaxes and cosines are float32."""
    source_vocab_size: int = 0
    """There are no words to read."""
    target_vocab_size: int = 0
    """Symbols that are predicted, of a model that predicts any."""
    pad: int = 0
    """What padding is filled with; `Source.mask` says where it is."""
    any_special_ids: ClassVar[bool] = True

    @property
    def _module(self) -> nn.Module:
        raise NotImplementedError

    @property
    def _encoder_config(self) -> Any:
        """The section of the encoder."""
        return self.config

    @property
    def _frame_multiple(self) -> int:
        """Frames behind the last multiple of it are left out."""
        return 1

    @property
    def max_frames(self) -> int:
        """Of the longest row."""
        return getattr(self._encoder_config, "max_positions", NO_LIMIT)

    @property
    def max_source_positions(self) -> int:
        """Samples of the longest row."""
        return self.receptive_field + self.hop * self.max_frames - 1

    def frames(self, samples: int) -> int:
        """T, of a batch of rows of `samples`."""
        found = frame_count(samples, self._encoder_config.conv_layers)
        return found - found % self._frame_multiple

    @property
    def receptive_field(self) -> int:
        """Samples that one frame is made of."""
        return receptive_field(self._encoder_config.conv_layers)

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return math.prod(layer.stride for layer in self._encoder_config.conv_layers)

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """See `protocol.FrameReader`: of samples."""
        return ()

    @property
    def least_frames(self) -> int:
        """See `protocol.FrameReader`: samples of the first frames."""
        return self.receptive_field + self.hop * (self._frame_multiple - 1)

    def real_frames(self, lengths: np.ndarray, *, samples: int) -> np.ndarray:
        """[B] frames that `encode` marks as real in rows of `lengths` [B] samples, padded to
        `samples`; 0 in a row that is too short for one."""
        found = frame_count(np.asarray(lengths), self._encoder_config.conv_layers)
        return np.minimum(found, self.frames(samples))

    @property
    def _shortest(self) -> int:
        """Samples with which every parameter is touched."""
        return self.receptive_field * 2 * self._frame_multiple

    def init(self, rng: jax.Array) -> Params:
        """Fresh float32 parameters, with fairseq's initialisation."""
        own, layers = jax.random.split(rng)
        samples = jnp.zeros((1, self._shortest), jnp.float32)
        params = self._module.init({"params": own}, samples)["params"]
        encoder = self._encoder_params(params)["encoder"]
        encoder["layers"] = bert_init(encoder["layers"], layers, pad=self.pad)
        return params

    def _encoder_params(self, params: Params) -> Params:
        """The parameters of the encoder's module among all."""
        return params

    def draw_rows(
        self, lengths: np.ndarray, seeds: np.ndarray, *, samples: int,
        labels: Sequence[int] = (),
    ) -> dict[str, np.ndarray]:
        """Arrays that go with a batch, of what is drawn for each row by itself
        (`row_draws.draw_rows`)."""
        family: Any = self  # draws by itself
        return row_draws.draw_rows(family, lengths, seeds, samples=samples, labels=labels)

    def drawn_of(self, batch: Mapping[str, jax.Array]) -> Drawn:
        """What `encode` and `pretrain` are given of a batch with these arrays."""
        family: Any = self
        return row_draws.drawn_of(family, batch)

    def encode(
        self, params: Params, source: Source, *, drawn: Drawn | None = None,
        rng: jax.Array | None = None, update: jax.Array | int | None = None,
    ) -> Encoded:
        """The last layer's states.

        Args:
          source: waveforms [B, N] and their mask, padding behind the samples. Unless it is
            `isolated`, group norms see the padding of shorter rows and a family may have a rule
            of its own for which frames are real, as in fairseq.
          drawn: frames and channels to mask (None: none).
          rng: for dropout and, of quantized inputs, Gumbel noise (None: neither).
          update: updates done so far, for what depends on them.

        Returns:
          States [B, T, D] and which of them are of real frames; a row too short for a frame
          has none.
        """
        self._check(source, drawn)
        x, real = self._run(params, source, drawn or Drawn(), rng=rng, update=update,
                            method="encode", alone=source.isolated)
        return Encoded(out=x, mask=real)

    def encoder_states(self, params: Params, source: Source) -> jax.Array:
        """See `protocol.Layered`: [L + 1, B, T, D], of which number k is fairseq's
        `output_layer` k."""
        self._check(source, None)
        found: Any = self._module.apply(
            {"params": params}, source.values, source.mask, method="hidden",
            alone=source.isolated)
        return found[0]

    def layer_states(
        self, params: Params, source: Source, *, layer: int | None
    ) -> Encoded:
        """States of one layer; those behind it are not computed.

        Args:
          source: as `encode` reads it.
          layer: fairseq's `output_layer`, from 1 (None: the last, with the norm behind it of
            encoders that have one there); 0: what the first layer reads.

        Raises:
          ValueError: there is no such layer.
        """
        if layer is None:
            return self.encode(params, source)
        if not 0 <= layer <= self.config.encoder_layers:
            raise ValueError(f"layer {layer}: there are 1 to {self.config.encoder_layers}, and 0, "
                             "what the first one reads")
        if layer == 0:
            self._check(source, None)
            found: Any = self._module.apply(
                {"params": params}, source.values, source.mask, method="hidden",
                alone=source.isolated)
            return Encoded(out=found[0][0], mask=found[1])
        model = dataclasses.replace(
            self, config=dataclasses.replace(self.config, encoder_layers=layer))
        x, real = model._run(
            self._first_layers(params, layer), source, Drawn(), rng=None, update=None,
            method="encode", alone=source.isolated, final_norm=False)
        return Encoded(out=x, mask=real)

    def _first_layers(self, params: Params, count: int) -> Params:
        """The parameters with the first layers of the encoder alone."""
        wanted = self._encoder_params(params)["encoder"]["layers"]

        def cut(tree: Params) -> Params:
            if tree is wanted:
                return jax.tree.map(lambda x: x[:count], tree)
            return {k: cut(v) for k, v in tree.items()} if isinstance(tree, dict) else tree

        return cut(params)

    def _rngs(self, rng: jax.Array | None) -> dict[str, jax.Array] | None:
        if rng is None:
            return None
        return {name: jax.random.fold_in(rng, i) for i, name in enumerate((
            "dropout", "gumbel"))}

    def _run(
        self, params: Params, source: Source, *inputs: Any, rng: jax.Array | None,
        update: jax.Array | int | None, method: str, **options: Any,
    ) -> Any:
        return self._module.apply(
            {"params": params}, source.values, source.mask, *inputs, update=update,
            rngs=self._rngs(rng), method=method, **options)

    def _channels(
        self, rows: int, rng: np.random.Generator
    ) -> np.ndarray | None:
        """Masked channels of each row (None: the configuration has none)."""
        cfg = self.config
        if cfg.mask_channel_prob <= 0:
            return None
        width = self._encoder_config.encoder_embed_dim
        return masking.draw_mask(masking.channel_spans(cfg), [width] * rows, width, rng)  # type: ignore[arg-type]

    def _check(self, source: Source, drawn: Drawn | None, frames: int | None = None) -> None:
        """Raises ValueError for shapes that do not fit one another.

        Args:
          frames: of a mask (None: all).
        """
        rows, samples = source.values.shape
        found = self.frames(samples)
        if found < 1:
            multiple = self._frame_multiple
            more = f" (crop_seq_to_multiple {multiple})" if multiple > 1 else ""
            raise ValueError(
                f"a batch of {samples} samples has no frame; this model's first needs "
                f"{self.receptive_field}{more}")
        if found > self.max_frames:
            raise ValueError(
                f"{samples} samples are {found} frames, over config.model.max_positions "
                f"{self.max_frames}")
        if drawn is None:
            return
        for name, width in (("mask", frames or found),
                            ("channels", self._encoder_config.encoder_embed_dim)):
            array = getattr(drawn, name)
            if array is not None and array.shape != (rows, width):
                raise ValueError(
                    f"{name} {list(array.shape)} is not [{rows}, {width}], for {samples} samples")


def with_statistics(params: Params, before: Params) -> Params:
    """Parameters with the statistics of batch norms that `before` has: no optimizer's to change,
    for weight decay would."""

    def chosen(path: Any, new: jax.Array, old: jax.Array) -> jax.Array:
        return old if path[-1].key in STATISTICS else new

    return jax.tree_util.tree_map_with_path(chosen, params, before)
