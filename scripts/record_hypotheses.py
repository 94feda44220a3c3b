"""Records what fairseq's generator finds with the tiny transformers of the tests.

Needs fairseq (main branch of 2025) and torch; seqjax and its tests need neither.

    python scripts/record_hypotheses.py tests/goldens/transformer tests/goldens/hypos [NAME ...]

For each model of CASES writes NAME.json: the sources, and per option set its arguments and,
for each sentence, hypotheses with tokens (eos included), score and positional scores
(natural logarithm). The batch holds all sentences, longest first, as fairseq collates them.
NAME_constrained.json has the same, sentence by sentence, with lexical constraints, permitted
outputs and a language model, NAME_lm.npz, whose weights are drawn at random. For each model
of SWITCHES it writes NAME.json with the option set `beam` alone.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from collections.abc import Callable

import numpy as np
import torch
from fairseq import checkpoint_utils, search
from fairseq.data import Dictionary
from fairseq.models.transformer import TransformerModel
from fairseq.models.transformer_lm import TransformerLanguageModel, base_lm_architecture
from fairseq.sequence_generator import SequenceGenerator
from fairseq.token_generation_constraints import pack_constraints

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
import packed

CASES = ("postnorm", "prenorm_shared")
SWITCHES = ("normformer", "adaptive", "cross_self", "cross_self_both", "pruned")
OPTIONS = {
    "greedy": {"beam": 1},
    "beam": {"beam": 4, "nbest": 4},
    "lenpen": {"beam": 5, "nbest": 2, "lenpen": 0.6},
    "lenpen_unkpen": {"beam": 4, "nbest": 2, "lenpen": 2.0, "unkpen": 1.5},
    "max_len": {"beam": 4, "nbest": 2, "max_len_a": 0.7, "max_len_b": 3},
    "min_len": {"beam": 4, "nbest": 2, "min_len": 7},
    "unnormalized": {"beam": 4, "nbest": 2, "unnormalized": True},
    "temperature": {"beam": 3, "nbest": 2, "temperature": 0.7},
    "hot": {"beam": 5, "nbest": 3, "temperature": 4.0, "unkpen": 0.3},
    "match_source_len": {"beam": 4, "nbest": 4, "match_source_len": True},
    "diverse": {"beam": 6, "nbest": 3, "diverse_beam_groups": 3, "diverse_beam_strength": 0.5},
    "siblings": {"beam": 4, "nbest": 2, "diversity_rate": 0.5},
    "prefix": {"beam": 4, "nbest": 2, "prefix_size": 2},
}
CONSTRAINED = {
    "ordered": {"beam": 5, "constraints": "ordered"},
    "unordered": {"beam": 5, "constraints": "unordered"},
    "ordered_narrow": {"beam": 1, "constraints": "ordered"},
    "unordered_narrow": {"beam": 1, "constraints": "unordered"},
    "ordered_wide": {"beam": 7, "constraints": "ordered", "lenpen": 0.6},
    "unordered_wide": {"beam": 7, "constraints": "unordered", "unkpen": 1.0},
    "unordered_early_eos": {"beam": 3, "constraints": "unordered", "min_len": 0},
    "permitted": {"beam": 4, "nbest": 4, "permitted": True},
    "permitted_narrow": {"beam": 1, "permitted": True, "lenpen": 0.5},
    "fusion": {"beam": 5, "nbest": 3, "lm_weight": 0.7},
    "fusion_hot": {"beam": 4, "nbest": 2, "lm_weight": 1.5, "temperature": 1.5, "lenpen": 0.5},
    "permitted_wide": {"beam": 8, "nbest": 8, "permitted": True, "max_len_b": 6},
}
LANGUAGE_MODEL = {
    "decoder_embed_dim": 8, "decoder_input_dim": 8, "decoder_output_dim": 8,
    "decoder_ffn_embed_dim": 8, "decoder_layers": 1, "decoder_attention_heads": 2,
    "share_decoder_input_output_embed": True, "tokens_per_sample": 64,
    "decoder_normalize_before": True}
MAX_LEN_B = 12
LENGTHS = (9, 4, 12, 7, 2, 7)


def dictionary(entries: int) -> Dictionary:
    """A dictionary of made-up words."""
    result = Dictionary()
    for i in range(entries - len(result)):
        result.add_symbol(f"w{i}")
    return result


def load(path: pathlib.Path) -> tuple[torch.nn.Module, Dictionary, Dictionary]:
    """The model of a file and its dictionaries."""
    state = checkpoint_utils.load_checkpoint_to_cpu(str(path))
    rows = [state["model"][f"{side}.embed_tokens.weight"].shape[0]
            for side in ("encoder", "decoder")]
    source, target = dictionary(rows[0]), dictionary(rows[1])
    config = state["cfg"].model
    if getattr(config, "share_all_embeddings", False):
        target = source

    class Task:
        source_dictionary, target_dictionary = source, target

    model = TransformerModel.build_model(config, Task)
    model.load_state_dict(state["model"], strict=True, model_cfg=config)
    return model.eval(), source, target


def strategy(target: Dictionary, args: dict) -> search.Search:
    """The search that fairseq's task would build."""
    if args.get("match_source_len"):
        return search.LengthConstrainedBeamSearch(target, 1, 0, 1, 0)
    if args.get("diverse_beam_groups"):
        return search.DiverseBeamSearch(
            target, args["diverse_beam_groups"], args["diverse_beam_strength"])
    if args.get("constraints"):
        return search.LexicallyConstrainedBeamSearch(target, args["constraints"])
    if args.get("permitted"):
        return search.PrefixConstrainedBeamSearch(target, args["permitted"])
    if args.get("diversity_rate"):
        return search.DiverseSiblingsSearch(target, args["diversity_rate"])
    return search.BeamSearch(target)


def generate(model: torch.nn.Module, target: Dictionary, args: dict, sources: list[np.ndarray],
             prefixes: np.ndarray, phrases: list | None = None) -> dict[str, list[dict]]:
    """Hypotheses by sentence."""
    order = sorted(range(len(sources)), key=lambda i: -len(sources[i]))
    width = max(LENGTHS)
    tokens = np.full((len(sources), width), 1, np.int64)
    for row, i in enumerate(order):
        tokens[row, width - len(sources[i]):] = sources[i]
    generator = SequenceGenerator(
        [model], target, beam_size=args["beam"], max_len_a=args.get("max_len_a", 0),
        max_len_b=args.get("max_len_b", MAX_LEN_B), min_len=args.get("min_len", 1),
        normalize_scores=not args.get("unnormalized", False), len_penalty=args.get("lenpen", 1.0),
        unk_penalty=args.get("unkpen", 0.0), temperature=args.get("temperature", 1.0),
        match_source_len=args.get("match_source_len", False), lm_model=args.get("lm_model"),
        lm_weight=args.get("lm_weight", 1.0), search_strategy=strategy(target, args))
    sample = {"id": torch.tensor(order), "net_input": {
        "src_tokens": torch.tensor(tokens),
        "src_lengths": torch.tensor([len(sources[i]) for i in order])}}
    size = args.get("prefix_size", 0)
    constraints = None
    if args.get("constraints"):
        constraints = pack_constraints([list(map(torch.tensor, phrases[i])) for i in order])
    found = generator.generate(
        [model], sample, constraints=constraints,
        prefix_tokens=torch.tensor(prefixes[order, :size]) if size else None)
    plain = lambda h: {  # noqa: E731
        "tokens": h["tokens"].tolist(), "score": float(h["score"]),
        "positional": [float(f"{p:.7g}") for p in h["positional_scores"].tolist()]}
    return {str(i): [plain(h) for h in hypotheses[:args.get("nbest", 1)]]
            for i, hypotheses in zip(order, found, strict=True)}


def language_model(target: Dictionary) -> torch.nn.Module:
    """A language model with random weights."""
    args = argparse.Namespace(**LANGUAGE_MODEL, max_target_positions=64)
    base_lm_architecture(args)

    class Task:
        source_dictionary = target_dictionary = output_dictionary = target

    torch.manual_seed(3)
    model = TransformerLanguageModel.build_model(args, Task)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return model.eval()


def make_constraints(rng: np.random.Generator, words: int) -> tuple[list, list]:
    """Phrases for each sentence (none, one, several, repeated, with common prefixes, with
    the unknown word), and permitted outputs."""
    a, b, c, d, e = (int(i) for i in rng.choice(np.arange(4, words), 5, replace=False))
    phrases = [[[a]], [], [[b, c], [d]], [[a, b], [a, c]], [[e], [e, a], [e]], [[3], [c, c]]]
    common = rng.integers(4, words, 3).tolist()
    outputs = [[*common[:n], *rng.integers(4, words, size).tolist(), 2]
               for n, size in rng.integers(0, 4, (60, 2)).tolist()]
    return phrases, [output for output in outputs if len(output) > 1]


def follower(outputs: list[list[int]]) -> Callable[[int, torch.Tensor], list[int]]:
    """What may come next if only these outputs are permitted."""
    table: dict[tuple[int, ...], set[int]] = {}
    for output in outputs:
        for n in range(len(output)):
            table.setdefault(tuple(output[:n]), set()).add(output[n])
    return lambda _, tokens: sorted(table.get(tuple(tokens[1:].tolist()), ()))


def constrained_hypotheses(model: torch.nn.Module, target: Dictionary, args: dict,
                           source: np.ndarray, phrases: list) -> list[dict]:
    """Of one sentence; none where fairseq stops because constraints are not met."""
    try:
        with torch.no_grad():
            return generate(model, target, args, [source], np.zeros((1, 0)), [phrases])["0"]
    except AssertionError:
        return []


def record(name: str, models: pathlib.Path, out: pathlib.Path) -> None:
    """One model."""
    rng = np.random.default_rng(5)
    model, source, target = load(packed.unpacked(models / name / "checkpoint.pt"))
    sources = [np.append(rng.integers(4, len(source), n - 1), 2) for n in LENGTHS]
    prefixes = rng.integers(4, len(target), (len(sources), 3))
    options = OPTIONS if name in CASES else {"beam": OPTIONS["beam"]}
    with torch.no_grad():
        sets = {key: {"args": args, "hypos": generate(model, target, args, sources, prefixes)}
                for key, args in options.items()}
    text = json.dumps({"sources": [s.tolist() for s in sources],
                       "prefixes": prefixes.tolist(), "max_len_b": MAX_LEN_B, "sets": sets})
    (out / f"{name}.json").write_text(text.replace('}, {', '},\n{') + "\n")
    print(out / f"{name}.json", len(text))
    if name not in CASES:
        return
    phrases, outputs = make_constraints(rng, len(target))
    constrained, lm = {}, language_model(target)
    np.savez(out / f"{name}_lm.npz", about=json.dumps(LANGUAGE_MODEL),
             **{k: v.numpy() for k, v in lm.state_dict().items()})
    for key, args in CONSTRAINED.items():
        used = {**args, "permitted": follower(outputs)} if "permitted" in args else args
        used = {**used, "lm_model": lm} if "lm_weight" in args else used
        used = {"max_len_b": 4 * MAX_LEN_B, **used}
        hypos = {str(i): constrained_hypotheses(model, target, used, sources[i], phrases[i])
                 for i in range(len(sources))}
        constrained[key] = {"args": args, "hypos": hypos}
    text = json.dumps({"sources": [s.tolist() for s in sources], "phrases": phrases,
                       "outputs": outputs, "max_len_b": 4 * MAX_LEN_B, "sets": constrained})
    (out / f"{name}_constrained.json").write_text(text.replace('}, {', '},\n{') + "\n")
    print(out / f"{name}_constrained.json", len(text))


def main() -> None:
    models, out = (pathlib.Path(a) for a in sys.argv[1:3])
    out.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[3:] or (*CASES, *SWITCHES):
        record(name, models, out)
    packed.pack(out)


if __name__ == "__main__":
    main()
