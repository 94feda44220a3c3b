"""Records what fairseq's hub says of tiny models: `encode`, `decode`, `fill_mask`,
`extract_features` with all hidden states, and features of words.

Needs fairseq (main branch of 2025) and torch. Writes FOLDER/{encoder.json, vocab.bpe, dict.txt}, a
byte-level BPE of a few merges and fairseq's dictionary of its integers; FOLDER/CASE.json, what the
hub said of texts; and FOLDER/CASE.npz, weights (`weights/NAME`) and features (`features/N`, of text
N [L + 1, S, D], and `last/N`; `words/N`):

    python scripts/record_hub.py tests/goldens/hub
"""

from __future__ import annotations

import argparse
import itertools
import json
import pathlib
import sys
from collections import Counter
from typing import Any

import numpy as np
import torch
from fairseq.data import Dictionary
from fairseq.data.encoders.gpt2_bpe import GPT2BPE
from fairseq.data.encoders.gpt2_bpe_utils import bytes_to_unicode
from fairseq.dataclass.configs import FairseqConfig
from fairseq.models import ARCH_CONFIG_REGISTRY
from fairseq.models.bart import BARTHubInterface, BARTModel
from fairseq.models.roberta import RobertaHubInterface, RobertaModel, alignment_utils
from fairseq.tasks.denoising import DenoisingConfig, DenoisingTask
from fairseq.tasks.masked_lm import MaskedLMConfig, MaskedLMTask
from omegaconf import OmegaConf

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
import packed

CORPUS = ("Hello world, the world is round. Hello again: where is the cat? The cat isn't there; "
          "the dog is. A naïve café owner reads the news, and the weather was fine. ") * 3
TEXTS = ["Hello world", " world", "world", "The cat isn't there.", "A naïve café ☕ owner",
         "the dog  is round and the weather was fine, where is the cat again?"]
PAIRS = [["Hello world", "The cat is there."], ["the dog", "is", "round"]]
MASKED = ["Hello <mask>", "The <mask> is there.", "Hello w<mask>, the cat.", "<mask> is the cat?"]
MANY = ["The <mask> is <mask>.", "Hello <mask>"]
"""Of models that write."""
_COMMON = dict(encoder_embed_dim=8, encoder_ffn_embed_dim=12, encoder_attention_heads=2,
               encoder_layers=2, no_seed_provided=False)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "roberta": ("roberta", dict(_COMMON, max_positions=40)),
    "roberta_prenorm": ("roberta_prenorm", dict(_COMMON, max_positions=40)),
    "bart": ("bart_base", dict(
        _COMMON, decoder_embed_dim=8, decoder_ffn_embed_dim=12, decoder_attention_heads=2,
        decoder_layers=3, max_source_positions=40, max_target_positions=40)),
}
MERGES = 60


def learn(folder: pathlib.Path) -> None:
    """A byte-level BPE of `CORPUS`, and a dictionary of what it makes of it."""
    alphabet = bytes_to_unicode()
    words = Counter(
        tuple(alphabet[b] for b in ((" " if i else "") + word).encode())
        for i, word in enumerate(CORPUS.split()))
    merges: list[tuple[str, str]] = []
    while len(merges) < MERGES:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in words.items():
            for pair in itertools.pairwise(word):
                pairs[pair] += count
        best = max(sorted(pairs), key=pairs.__getitem__)
        merges.append(best)
        words = Counter({_merged(word, best): count for word, count in words.items()})
    symbols = [*alphabet.values(), *("".join(pair) for pair in merges)]
    (folder / "encoder.json").write_text(json.dumps({s: i for i, s in enumerate(symbols)}))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "vocab.bpe").write_text("\n".join(lines) + "\n")
    seen = Counter(bpe(folder).encode(CORPUS).split())
    order = sorted(map(str, range(len(symbols))), key=lambda s: (-seen[s], int(s)))
    (folder / "dict.txt").write_text("".join(f"{s} {seen[s]}\n" for s in order))


def _merged(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    out: list[str] = []
    for symbol in word:
        if out and (out[-1], symbol) == pair:
            out[-1] += symbol
        else:
            out.append(symbol)
    return tuple(out)


def bpe(folder: pathlib.Path) -> GPT2BPE:
    return GPT2BPE(argparse.Namespace(
        gpt2_encoder_json=str(folder / "encoder.json"), gpt2_vocab_bpe=str(folder / "vocab.bpe")))


def build(folder: pathlib.Path, case: str) -> tuple[Any, Any]:
    """The hub of a tiny model, and the model."""
    arch, given = CASES[case]
    args = argparse.Namespace(**given)
    ARCH_CONFIG_REGISTRY[arch](args)
    dictionary = Dictionary.load(str(folder / "dict.txt"))
    writes = hasattr(args, "decoder_layers")
    if writes:
        task: Any = DenoisingTask(DenoisingConfig(data=str(folder), tokens_per_sample=40,
                                                  max_source_positions=40,
                                                  max_target_positions=40), dictionary)
    else:
        task = MaskedLMTask(MaskedLMConfig(data=str(folder), tokens_per_sample=40), dictionary)
    torch.manual_seed(1)
    model = (BARTModel if writes else RobertaModel).build_model(args, task)
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():  # larger than they begin, so that outputs differ
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    cfg = OmegaConf.structured(FairseqConfig)
    OmegaConf.set_struct(cfg, False)
    cfg.bpe = {"_name": "gpt2", "gpt2_encoder_json": str(folder / "encoder.json"),
               "gpt2_vocab_bpe": str(folder / "vocab.bpe")}
    cfg.tokenizer = None
    hub = (BARTHubInterface if writes else RobertaHubInterface)(cfg, task, model)
    return hub.eval(), model


def record(folder: pathlib.Path, case: str) -> None:
    """What the hub of a case says."""
    hub, model = build(folder, case)
    state = {k: v.numpy().copy() for k, v in model.state_dict().items() if "version" not in k}
    arch, given = CASES[case]
    said: dict[str, Any] = {"arch": arch, "args": given, "texts": [], "pairs": [], "filled": []}
    arrays: dict[str, np.ndarray] = {f"weights/{k}": v for k, v in state.items()}
    with torch.no_grad():
        for n, text in enumerate(TEXTS):
            ids = hub.encode(text)
            said["texts"].append({"text": text, "ids": ids.tolist(), "decoded": hub.decode(ids)})
            every = hub.extract_features(ids, return_all_hiddens=True)
            arrays[f"features/{n}"] = np.stack([x[0].numpy() for x in every])
            arrays[f"last/{n}"] = hub.extract_features(ids)[0].numpy()
            if "bart" not in case:
                arrays[f"words/{n}"] = _words(hub, text, ids)
        for texts in PAIRS:
            ids = hub.encode(*texts)
            said["pairs"].append({"texts": texts, "ids": ids.tolist(), "decoded": hub.decode(ids)})
        if "bart" in case:
            said["long"] = {"text": " ".join(TEXTS), "ids": hub.encode(" ".join(TEXTS)).tolist()}
            for text in [*MASKED, *MANY]:
                found = hub.fill_mask([text], topk=3)[0]
                said["filled"].append({"text": text, "found": [
                    [text, float(score)] for text, score in found]})
            said["free"] = [[text, float(score)] for text, score in hub.fill_mask(
                [MANY[0]], topk=2, match_source_len=False, beam=4, max_len_b=12)[0]]
        else:
            for text in MASKED:
                said["filled"].append({"text": text, "found": [
                    list(each) for each in hub.fill_mask(text, topk=4)]})
    (folder / f"{case}.json").write_text(json.dumps(said, indent=1, ensure_ascii=False) + "\n")
    np.savez_compressed(folder / f"{case}.npz", **arrays)


def _words(hub: Any, text: str, ids: torch.Tensor) -> np.ndarray:
    """Features of words that white space separates, by fairseq's own functions; none where these
    fail: for a character of several pieces, or a piece that is white space alone."""
    features = hub.extract_features(ids)[0]
    try:
        found = alignment_utils.align_bpe_to_words(hub, ids, text.split())
        return alignment_utils.align_features_to_words(hub, features, found).numpy()
    except AssertionError:
        return np.zeros((0, features.shape[1]), np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    learn(folder)
    for case in CASES:
        record(folder, case)
    packed.pack(folder)


if __name__ == "__main__":
    main()
