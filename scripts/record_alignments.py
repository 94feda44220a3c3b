"""Records what fairseq makes of word alignments: its loss, and what it reads off attention.

Needs fairseq (main branch of 2025) and torch; seqjax and its tests need neither.

    python scripts/record_alignments.py tests/goldens

Writes, for tiny `transformer_align` models, `transformer_align/CASE.npz`: what
record_families.py does, and beside it `attention` (on real positions; sources are padded on
the right), `alignments` (JSON: pairs of each sentence; one reaches beyond its sentence and is
left out), `criterion` (loss, nll_loss and alignment_loss of
label_smoothed_cross_entropy_with_alignment, summed, and the loss that is minimised) and
`aligned_grads` (its gradient norms, in the order of `aligned_names`).

Then, for each of SEARCHES, `alignment/NAME.json`: sources and, in their order, hypotheses of
beam 3 with their hard alignment and their attention, eos included, as
SequenceGeneratorWithAlignment gives them.
"""

from __future__ import annotations

import json
import pathlib
import sys
import types
from typing import Any

import numpy as np
import record_families
import torch
from fairseq.criterions.label_smoothed_cross_entropy_with_alignment import (
    LabelSmoothedCrossEntropyCriterionWithAlignment,
)
from fairseq.data.language_pair_dataset import collate
from fairseq.sequence_generator import SequenceGeneratorWithAlignment

LAMBDA = 0.3
ALIGNMENTS = (
    [(0, 0), (1, 1), (2, 1), (7, 1), (3, 4), (5, 5)],
    [(0, 1), (4, 0), (5, 2)],
    [(2, 0), (0, 0), (1, 1)],
)
"""Of the sentences of `record_families.batch`; the second has six source tokens with eos."""
_SIZES = dict(
    encoder_embed_dim=8, encoder_ffn_embed_dim=12, encoder_layers=2, encoder_attention_heads=2,
    decoder_embed_dim=8, decoder_ffn_embed_dim=10, decoder_layers=3, decoder_attention_heads=4,
)
MODELS = {
    "causal": ("transformer_align", dict(_SIZES, alignment_layer=1, alignment_heads=2)),
    "full_context": ("transformer_wmt_en_de_big_align", dict(
        _SIZES, alignment_layer=0, alignment_heads=1, full_context_alignment=True,
        share_decoder_input_output_embed=True, decoder_learned_pos=True)),
}
SEARCHES = (
    "transformer_align/full_context", "lstm/bidirectional", "fconv/mixed", "lightconv/dynamic")
LENGTHS = (9, 4, 7, 2)


def sample_of(source: np.ndarray, target: np.ndarray) -> dict[str, Any]:
    """fairseq's own batch of the sentences, longest source first."""
    rows = [
        {"id": i, "source": torch.tensor(s[s != 1]), "target": torch.tensor(t[t != 1]),
         "alignment": torch.IntTensor(np.array(pairs).reshape(-1))}
        for i, (s, t, pairs) in enumerate(zip(source, target, ALIGNMENTS, strict=True))]
    return collate(rows, pad_idx=1, eos_idx=2, left_pad_source=True, left_pad_target=False)


def record_loss(arch: str, given: dict[str, Any]) -> dict[str, Any]:
    """What the criterion with alignments computes of a model."""
    recorded = record_families.record(arch, given)
    torch.manual_seed(1)
    model = record_families.build(arch, given, (16, 18))
    source, target = recorded["source"].astype(np.int64), recorded["target"].astype(np.int64)
    sample = sample_of(source, target)
    assert sample["id"].tolist() == [0, 1, 2]
    task = types.SimpleNamespace(target_dictionary=record_families.dictionary(18))
    criterion = LabelSmoothedCrossEntropyCriterionWithAlignment(
        task, sentence_avg=False, label_smoothing=record_families.SMOOTHING,
        alignment_lambda=LAMBDA)
    attention = model(**sample["net_input"])[1]["attn"][0].detach().numpy()
    straight = np.zeros(attention.shape, np.float32)
    for row, tokens in enumerate(sample["net_input"]["src_tokens"].numpy()):
        straight[row, :, : (tokens != 1).sum()] = attention[row][:, tokens != 1]
    loss, _, log = criterion(model, sample)
    loss.backward()
    gradients = {k: v.grad.norm() for k, v in model.named_parameters() if v.grad is not None}
    values = [log["loss"], log["nll_loss"], log["alignment_loss"], loss.item()]
    return {
        **recorded, "attention": straight, "alignments": np.array(json.dumps(ALIGNMENTS)),
        "criterion": np.array(values, np.float32),
        "aligned_names": np.array(list(gradients)),
        "aligned_grads": torch.stack(list(gradients.values())).numpy(),
    }


def record_search(arch: str, given: dict[str, Any], weights: dict[str, Any]) -> dict[str, Any]:
    """Hypotheses of a search with both kinds of alignment."""
    model = record_families.build(arch, given, (16, 18))
    model.load_state_dict(weights, strict=False)
    rng = np.random.default_rng(5)
    sources = [np.append(rng.integers(4, 16, n - 1), 2) for n in LENGTHS]
    dictionary = record_families.dictionary(18)
    hypos = []
    for source in sources:  # alone: fairseq shifts an lstm's alignments by the padding
        sample = {"id": torch.tensor([0]), "net_input": {
            "src_tokens": torch.tensor(source[None]), "src_lengths": torch.tensor([len(source)])}}
        hard, soft = (
            SequenceGeneratorWithAlignment(
                [model], dictionary, beam_size=3, max_len_b=10, print_alignment=kind,
            ).generate([model], sample)[0]
            for kind in ("hard", "soft"))
        hypos.append([
            {"tokens": h["tokens"].tolist(), "score": float(h["score"]),
             "alignment": h["alignment"], "attention": s["alignment"]}
            for h, s in zip(hard, soft, strict=True)])
    return {"sources": [s.tolist() for s in sources], "beam": 3, "max_len_b": 10, "hypos": hypos}


def read_weights(path: pathlib.Path) -> tuple[str, dict, dict[str, Any]]:
    """Architecture, options and weights of a recorded case."""
    with np.load(path) as file:
        about, flat = json.loads(str(file["about"])), file["weights"]
    state, at = {}, 0
    for name, shape in about["weights"].items():
        size = int(np.prod(shape))
        state[name] = torch.tensor(flat[at : at + size].reshape(shape))
        at += size
    return about["arch"], about["args"], state


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    (folder / "transformer_align").mkdir(parents=True, exist_ok=True)
    (folder / "alignment").mkdir(parents=True, exist_ok=True)
    for name, (arch, given) in MODELS.items():
        path = folder / "transformer_align" / f"{name}.npz"
        np.savez_compressed(path, allow_pickle=False, **record_loss(arch, given))
        print(path, path.stat().st_size)
    for name in SEARCHES:
        with torch.no_grad():
            result = record_search(*read_weights(folder / f"{name}.npz"))
        path = folder / "alignment" / f"{name.replace('/', '_')}.json"
        path.write_text(json.dumps({"model": name, **result}).replace("}, {", "},\n{") + "\n")
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
