"""Who owns the parameters of recurrent encoders and decoders: sizes in, arrays by fairseq's names
out. A module here makes its parameters when it is called; `layers.py` computes with them."""

from __future__ import annotations

from flax import linen as nn

from seqjax.models.lstm.config import LSTMConfig, LSTMLanguageModelConfig
from seqjax.models.lstm.layers import directions
from seqjax.models.parts.initializers import uniform
from seqjax.models.parts.layers import Embedding, Linear
from seqjax.models.parts.module_model import PAD
from seqjax.models.parts.prepared_model import adaptive_softmax

INIT = uniform(0.1)
"""fairseq starts every parameter of these models so, but for padding's row of an embedding and for
an adaptive softmax."""


def dense(inputs: int, outputs: int, name: str, *, bias: bool = True) -> None:
    """Makes a linear map of the module that is being called."""
    Linear(inputs, outputs, bias, INIT, INIT, name=name).weights()


def embedding(rows: int, dim: int) -> None:
    """Likewise `embed_tokens`."""
    Embedding(rows, dim, PAD, INIT, name="embed_tokens").weights()


class Recurrent(nn.Module):
    """One LSTM layer in one direction: from its input and from its own state."""

    inputs: int
    hidden: int

    @nn.compact
    def __call__(self) -> None:
        dense(self.inputs, 4 * self.hidden, "ih")
        dense(self.hidden, 4 * self.hidden, "hh")


class LSTM(nn.Module):
    """torch's `LSTM`: the encoder's layers, in all directions."""

    config: LSTMConfig

    @nn.compact
    def __call__(self) -> None:
        cfg = self.config
        for i in range(cfg.encoder_layers):
            inputs = cfg.encoder_embed_dim if i == 0 else cfg.encoder_units
            for name in directions(cfg, i):
                Recurrent(inputs, cfg.encoder_width, name=name)()


class Encoder(nn.Module):
    """fairseq's `LSTMEncoder`."""

    config: LSTMConfig
    vocab_size: int

    @nn.compact
    def __call__(self) -> None:
        embedding(self.vocab_size, self.config.encoder_embed_dim)
        LSTM(self.config, name="lstm")()


class Attention(nn.Module):
    """fairseq's `AttentionLayer`."""

    hidden: int
    units: int

    @nn.compact
    def __call__(self) -> None:
        dense(self.hidden, self.units, "input_proj", bias=False)
        dense(self.hidden + self.units, self.hidden, "output_proj", bias=False)


class Decoder(nn.Module):
    """fairseq's `LSTMDecoder`."""

    config: LSTMConfig | LSTMLanguageModelConfig
    vocab_size: int | None
    """Rows of its own embedding (None: it is the encoder's)."""
    output_size: int
    output_ends: tuple[int, ...] | None
    """Ends of the clusters of an adaptive softmax (None: an ordinary one)."""
    units: int = 0
    """Width of the encoder's output; 0 without an encoder."""
    attends: bool = False

    @nn.compact
    def __call__(self) -> None:
        cfg, hidden, units = self.config, self.config.decoder_width, self.units
        if self.vocab_size is not None:
            embedding(self.vocab_size, cfg.decoder_embed_dim)
        inputs = cfg.decoder_embed_dim + (hidden if units else 0)  # outputs are fed back
        for i in range(cfg.decoder_layers):
            Recurrent(hidden if i else inputs, hidden, name=f"layers_{i}")()
        if units and units != hidden:
            dense(units, hidden, "encoder_hidden_proj")
            dense(units, hidden, "encoder_cell_proj")
        if self.attends:
            Attention(hidden, units, name="attention")()
        if hidden != cfg.decoder_out_embed_dim:
            # With an adaptive softmax fairseq has it as well, and makes no use of it.
            dense(hidden, cfg.decoder_out_embed_dim, "additional_fc")
        if self.output_ends is not None:
            adaptive_softmax(hidden, self.output_ends)()
        elif not cfg.ties_output:
            dense(cfg.decoder_out_embed_dim, self.output_size, "fc_out")
