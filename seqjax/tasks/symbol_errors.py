"""How good a recogniser is while it trains: recordings and their labels in; errors of symbols and
words in percent out, as fairseq's criterion `ctc` counts them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.config import ConfigError, LossSection
from seqjax.data.audio.datasets import AudioDataset
from seqjax.data.epoch_plan import Shape
from seqjax.data.vocabulary import Vocabulary
from seqjax.generation.ctc.decoder import CTCDecoder
from seqjax.generation.ctc.options import CTCOptions
from seqjax.losses import Metric
from seqjax.losses.ctc import BLANK, frame_log_probs
from seqjax.models.protocol import MaskedFrameReader, Params, Source
from seqjax.tasks import metrics
from seqjax.tasks.evaluator import Evaluation, TranslationEvaluator

_SAMPLES = 1 << 19
"""Of one batch, unless a recording is longer."""
_NARROWEST = 1 << 13
_BEAM = 50
"""fairseq's, of a search with a language model."""


class CtcEvaluator:
    """Recognises all of a split, each recording as if it were alone.

    `uer` is of the best path's symbols, `raw_wer` of the words in it, and `wer` of what a search
    with the loss's language model finds; without one `wer` is `raw_wer`. Recordings without symbols
    count what was found in them as errors, as in fairseq. The compiled pass is kept from call to
    call.

    Args:
      model: says symbols of frames.
      dataset: recordings with one list of labels.
      symbols: number 0 is the blank.
      text: ids of symbols -> words.
      boundary: id of the symbol between words.
      loss: section of the loss, with `wer_kenlm_model` and those beside it.
      limit: only the first so many recordings (0: all).
      sharding, row_multiple: how rows lie on the devices.
    """

    metrics: Mapping[str, Metric] = metrics.ERRORS

    def __init__(
        self, model: MaskedFrameReader, dataset: AudioDataset, *, symbols: Vocabulary,
        text: Callable[[np.ndarray], str], boundary: int | None, loss: LossSection | None,
        limit: int = 0,
        sharding: jax.sharding.Sharding | None = None, row_multiple: int = 1,
    ) -> None:
        reader: Any = model
        metrics.jiwer()  # it is missed now, not after the first epoch
        self._dataset, self._model, self._text = dataset, model, text
        self._sharding = sharding
        count = min(limit or len(dataset), len(dataset))
        labels = dataset.labels[0]
        ends = (symbols.pad, symbols.eos)
        ids = [labels.ids(int(dataset.ids[i])) for i in range(count)]
        self._references = [row[~np.isin(row, ends)] for row in ids]
        self._plan = _plan(dataset, count, row_multiple)
        self._search = _search(symbols, boundary, loss)

        def scores(params: Params, samples: jax.Array, lengths: jax.Array) -> jax.Array:
            real = jnp.arange(samples.shape[1]) < lengths[:, None]
            source = Source(values=samples, mask=real, isolated=True)
            encoded = reader.encode(params, source)
            found = frame_log_probs(reader.features(params, encoded).logits(), encoded.mask)
            return found if self._search else found.argmax(axis=-1)

        self._scores: Any = jax.jit(scores)

    def __call__(self, params: Params) -> Evaluation:
        """Recognises with these parameters."""
        best, words = self._recognised(params)
        texts = [self._text(row) for row in best]
        wanted = [self._text(row) for row in self._references]
        found = texts if words is None else words
        symbols = metrics.errors([row.tolist() for row in best],
                                 [row.tolist() for row in self._references])
        raw, searched = (metrics.errors(*([x.split() for x in side] for side in (said, wanted)))
                         for said in (texts, found))
        places = [self._dataset.manifest.names[int(i)] for i in self._dataset.ids]
        return Evaluation(
            values={"uer": symbols.percent, "wer": searched.percent, "raw_wer": raw.percent},
            samples=list(zip(places, found, wanted, strict=False)))

    def _recognised(
        self, params: Params
    ) -> tuple[list[np.ndarray], list[str] | None]:
        """Symbols of the best path of each recording, and the words that the search finds."""
        from seqjax.generation.ctc.greedy import collapse

        best: list[Any] = [None] * len(self._references)
        rows: list[Any] = [None] * len(self._references)
        for places, shape in self._plan:
            batch = self._dataset.materialise(
                np.array(places), np.arange(len(places)), shape)
            inputs = batch["source"], batch["source_lengths"]
            if self._sharding is not None:
                inputs = tuple(jax.device_put(x, self._sharding) for x in inputs)
            found = np.asarray(self._scores(params, *inputs))
            for row, place in enumerate(places):
                scores = found[row, : self._frames(int(batch["source_lengths"][row]))]
                rows[place] = scores
                best[place] = collapse(
                    scores.argmax(axis=-1) if self._search else scores, blank=BLANK)
        if self._search is None:
            return best, None
        hypotheses = self._search.decode(rows)
        return best, [" ".join(h[0].words or ()) if h else "" for h in hypotheses]

    def _frames(self, samples: int) -> int:
        """Of a recording that is alone."""
        return self._model.frames(samples) if samples >= self._model.receptive_field else 0


def _plan(
    dataset: AudioDataset, count: int, row_multiple: int
) -> list[tuple[list[int], Shape]]:
    """Places of the first `count` recordings, those together that are recognised together, and
    the shape of each batch: few."""
    lengths, targets = dataset.lengths.source, dataset.lengths.target
    assert lengths is not None and targets is not None
    lengths, longest = lengths[:count], int(targets.max(initial=0))
    by_width: dict[int, list[int]] = {}
    for place, length in enumerate(lengths.tolist()):
        width = _NARROWEST
        while width < length:
            width *= 2
        width = width // 4 * 3 if length <= width // 4 * 3 else width
        by_width.setdefault(width, []).append(place)
    plan = []
    for width, places in sorted(by_width.items()):
        most = max(_SAMPLES // width, 1)
        rows = -(-min(most, len(places)) // row_multiple) * row_multiple
        plan += [(places[i:i + rows], Shape(rows, width, longest))
                 for i in range(0, len(places), rows)]
    return plan


def _search(
    symbols: Vocabulary, boundary: int | None, loss: LossSection | None
) -> CTCDecoder | None:
    """The search with the loss's language model, if it names one."""
    said: Any = loss
    lm, lexicon = (getattr(said, f"wer_{key}", None) for key in ("kenlm_model", "lexicon"))
    if not lm:
        return None
    size = min(_BEAM, len(symbols))
    try:
        return CTCDecoder(
            symbols.symbols, blank=BLANK, silence=boundary, options=CTCOptions(
                beam=_BEAM, lm=lm, lexicon=lexicon or "", lm_weight=said.wer_lm_weight,
                word_score=said.wer_word_score, sil_weight=said.wer_sil_weight,
                beam_size_token=size, beam_threshold=float(size), log_add=False))
    except ConfigError as error:
        raise ConfigError(f"config.loss.wer_kenlm_model: {error}") from None


class WrittenEvaluator(TranslationEvaluator):
    """Decodes as the evaluator of translation does, and counts `uer` and `wer`: what fairseq's
    `eval_wer` reports of models with a decoder. Symbols are the characters of the text."""

    metrics: Mapping[str, Metric] = {name: metrics.ERRORS[name] for name in ("uer", "wer")}

    def __call__(self, params: Params) -> Evaluation:
        """Decodes with these parameters."""
        samples = super().__call__(params).samples
        outputs, references = ([s[k] for s in samples] for k in (1, 2))
        return Evaluation(samples=samples, values={
            "uer": metrics.errors(outputs, references).percent,
            "wer": metrics.errors(*([x.split() for x in side]
                                    for side in (outputs, references))).percent})
