"""wav2vec 2.0 with a decoder against what fairseq computes, in whole rows and step by step."""

from __future__ import annotations

import family_goldens
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.config import GenerationConfig
from seqjax.generation.decoder import Decoder
from seqjax.interop.fairseq import checkpoint as fairseq_weights
from seqjax.models.protocol import Source


def test_words_loss_gradients_and_steps_are_fairseqs():
    golden = family_goldens.load("wav2vec_seq2seq/base")
    arrays, model = golden.arrays, golden.model
    samples = jnp.asarray(arrays["samples"], jnp.float32)
    source = Source(values=samples, mask=jnp.arange(samples.shape[1]) < jnp.asarray(
        arrays["lengths"])[:, None])
    prev, target = (jnp.asarray(arrays[k], jnp.int32) for k in ("prev", "target"))

    @jax.jit
    def run(params):
        def loss(params):
            encoded = model.encode(params, source)
            lprobs = jax.nn.log_softmax(model.features(params, prev, encoded).logits())
            nll = -jnp.take_along_axis(lprobs, target[..., None], axis=-1)[..., 0]
            return jnp.where(target != 1, nll, 0).sum(), (lprobs, encoded)
        return jax.value_and_grad(loss, has_aux=True)(params)

    (value, (lprobs, encoded)), gradient = jax.device_get(run(golden.params))
    real = arrays["target"] != 1
    np.testing.assert_allclose(lprobs[real], arrays["lprobs"][real], atol=2e-5)
    wanted = -np.take_along_axis(arrays["lprobs"], arrays["target"][..., None], -1)[..., 0]
    np.testing.assert_allclose(value, wanted[real].sum(), rtol=1e-5)
    theirs = fairseq_weights.to_state(gradient, golden.config, **golden.sizes)
    for key, norm in golden.gradients.items():
        ours = np.linalg.norm(theirs[key].ravel())
        np.testing.assert_allclose(ours, norm, rtol=1e-4, atol=2e-5, err_msg=key)
    rows, length = prev.shape

    @jax.jit
    def stepped(params):
        weights = model.prepare(params)
        cache = model.start(weights, jax.tree.map(jnp.asarray, encoded), rows=rows, beam=1,
                            capacity=length)
        found = []
        for t in range(length):
            features, cache = model.step(
                weights, prev[:, t : t + 1], cache, position=jnp.int32(t),
                ancestors=jnp.zeros((rows, 1, length), jnp.int32))
            found.append(jax.nn.log_softmax(features.logits())[:, 0])
        return jnp.stack(found, axis=1)

    np.testing.assert_allclose(
        stepped(golden.params)[real], arrays["lprobs"][real], atol=2e-5)


def test_searches_read_samples_and_do_not_depend_on_batches():
    golden = family_goldens.load("wav2vec_seq2seq/base")
    arrays = golden.arrays
    sources = [row[:n].astype(np.float32) for row, n in zip(
        arrays["samples"], arrays["lengths"], strict=True)]
    decoder = Decoder(golden.model, GenerationConfig(beam=2, nbest=2, max_len_b=6))
    together = decoder.decode(golden.params, sources)
    for found, source in list(zip(together, sources, strict=True))[:2]:
        (apart,) = decoder.decode(golden.params, [source])
        for h, other in zip(found, apart, strict=True):
            assert h.tokens.tolist() == other.tokens.tolist()
            np.testing.assert_allclose(h.positional_scores, other.positional_scores, atol=1e-5)
        # Step by step is what whole rows are.
        best = found[0].tokens
        encoded = golden.model.encode(golden.params, Source(
            values=jnp.asarray(source[None]), mask=jnp.ones((1, len(source)), bool)))
        prev = np.concatenate([[golden.model.eos], best[:-1]]).astype(np.int32)[None]
        lprobs = jax.nn.log_softmax(
            golden.model.features(golden.params, prev, encoded).logits())
        np.testing.assert_allclose(
            lprobs[0, np.arange(len(best)), best], found[0].positional_scores, atol=1e-5)
    short = sources[0][:golden.model.least_frames - 1]
    with pytest.raises(ValueError, match=f"has {len(short)} frames, but the model needs"):
        decoder.decode(golden.params, [short])
