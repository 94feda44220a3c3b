"""The language modelling task, perplexity as fairseq-eval-lm has it, and generation."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil

import family_goldens
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import config as configuration
from seqjax import evaluate, generate, hub, losses, models, tasks
from seqjax.config import ConfigError, GenerationConfig
from seqjax.data.pipeline import epoch_batches
from seqjax.data.planning import make_plan
from seqjax.data.vocabulary import Vocabulary
from seqjax.generation.decoder import Decoder
from seqjax.interop.torch.writer import write_pt
from seqjax.tasks.perplexity import ScoredBlock, WordScores
from seqjax.training import checks, objective, parts

NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")


@pytest.fixture(scope="module")
def folder(goldens):
    return goldens / "transformer_lm" / "eval_lm"


@pytest.fixture(scope="module")
def checkpoint(folder, tmp_path_factory):
    with np.load(folder / "weights.npz") as file:
        state = dict(file)
    args = {"arch": "transformer_lm", "task": "language_modeling",
            **json.loads(str(state.pop("about")))}
    path = tmp_path_factory.mktemp("lm") / "tiny.pt"
    write_pt(path, {"args": args, "model": state})
    return str(path)


@pytest.fixture
def lines_of(checkpoint, folder, capsys):
    """What `python -m seqjax.evaluate` prints."""

    def run(*arguments: str, path: str = checkpoint) -> list[str]:
        evaluate.main([
            "--checkpoint", path, "--data", str(folder / "data-bin"), "--subset", "valid",
            "--max-tokens", "512", *arguments,
        ])
        return capsys.readouterr().out.splitlines()

    return run


@pytest.mark.parametrize("case", range(4))
def test_lines_are_those_of_fairseq_eval_lm(folder, lines_of, case):
    recorded = json.loads((folder / "lines.json").read_text())
    arguments, expected = list(recorded.items())[case]
    found = lines_of(*re.split(r" (?=--)|(?<=[a-z]) (?=\w)", arguments))
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert NUMBER.sub("#", ours) == NUMBER.sub("#", theirs)
        np.testing.assert_allclose(
            [float(x) for x in NUMBER.findall(ours)], [float(x) for x in NUMBER.findall(theirs)],
            atol=1e-4, rtol=1e-4,
        )


def test_batches_ensembles_and_chunks_change_no_number(checkpoint, lines_of):
    blocks = ("--tokens-per-sample", "40")
    whole = lines_of(*blocks)
    assert lines_of(*blocks, "--batch-size", "2") == whole
    assert lines_of(*blocks, "--softmax-batch", "7") == whole
    assert lines_of(*blocks, path=f"{checkpoint}:{checkpoint}") == whole


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tokens-per-sample", "16", "--context-window", "16"], "leaves nothing"),
        (["--tokens-per-sample", "4000", "--sample-break-mode", "none"], "40 positions"),
        (["--post-process", "sentencepiece"], "marked by '@@ '"),
        (["--subset", "test"], "no such store"),
        (["--data", "nowhere"], "nowhere"),
    ],
)
def test_wrong_options_are_refused(lines_of, arguments, message):
    with pytest.raises((ConfigError, FileNotFoundError), match=message):
        lines_of(*arguments)


def test_sizes_are_one_or_more(lines_of, capsys):
    with pytest.raises(SystemExit):
        lines_of("--softmax-batch", "0")
    assert "--softmax-batch 0: it is 1 or more" in capsys.readouterr().err


def test_pieces_of_words_are_joined_and_counted_once():
    vocabulary = Vocabulary(["ab@@", "c", "d"])
    words = WordScores(vocabulary, post_process="@@ ")
    block = ScoredBlock(
        index=0, tokens=np.array([4, 5, 6, 4, 2]),
        scores=np.array([-1, -2, -0.5, -1, -0.25], np.float32),
    )
    assert words.add(block, statistics=True) == [("abc", -3.0), ("d", -0.5), ("ab</s>", -1.25)]
    assert words.count == 3 and words.log_prob == -4.75
    assert words.loss == pytest.approx(4.75 / 3 / np.log(2))
    assert [str(s) for s in words.by_count()] == [
        "abc\t1\t-3.0\tTrue\t-0.5\t1", "d\t1\t-0.5\tFalse\t-1.25\t1",
        "ab</s>\t1\t-1.25\tTrue\t0\t0",
    ]


def resolved(folder, **sections):
    raw = {
        "task": {"name": "language_modeling", "data": str(folder / "data-bin"),
                 "train_subset": "valid", "tokens_per_sample": 24, "sample_break_mode": "complete",
                 **sections.pop("task", {})},
        "model": {"name": "transformer_lm", "decoder_embed_dim": 16, "decoder_ffn_embed_dim": 16,
                  "decoder_layers": 1, "decoder_attention_heads": 2, "max_target_positions": 64,
                  **sections.pop("model", {})},
        "loss": {"name": "cross_entropy"}, **sections,
    }
    return configuration.resolve(
        raw, tasks=tasks.CONFIGS, models=models.CONFIGS, losses=losses.CONFIGS,
        archs=models.ARCHS,
    )


ADAPTIVE = dict(adaptive_softmax_cutoff="50,150", adaptive_input=True, tie_adaptive_weights=True,
                adaptive_input_cutoff="50,150", tie_adaptive_proj=True)


@pytest.mark.parametrize("adaptive", [False, True])
def test_every_batching_gives_the_same_loss_and_gradient(folder, adaptive):
    cfg = resolved(
        folder, model=ADAPTIVE if adaptive else {},
        loss={"name": "adaptive_loss" if adaptive else "cross_entropy"},
    )
    task = tasks.setup(cfg)
    model = models.build(cfg.model, **task.vocab_sizes, compute_dtype=jnp.float32)
    params = jax.jit(model.init)(jax.random.key(0))
    data, limits = task.train_dataset(), task.max_positions(model)

    loss_fn = objective.loss_function(task, model, cfg.loss)

    @jax.jit
    def run(params, batch):
        def loss(params):
            output, _ = loss_fn(params, {}, batch, None, 0)
            return output.sum, output
        return jax.grad(loss, has_aux=True)(params)

    found = {}
    for mode in ("bucketed", "packed"):
        plan = make_plan(
            data.lengths, seed=1, train=False, max_source_positions=limits[0],
            max_target_positions=limits[1],
            batching=configuration.BatchingConfig(
                mode=mode, max_tokens=512, pack_length=64, num_shapes=1),
        )
        total = None
        for batch in epoch_batches(plan.epoch(1), data):
            part = run(params, batch.arrays)
            total = part if total is None else jax.tree.map(jnp.add, total, part)
        found[mode] = total
    assert total is not None
    (g1, l1), (g2, l2) = found["bucketed"], found["packed"]
    assert float(l1.weight) == float(l2.weight) == len(data.stream)
    np.testing.assert_allclose(l1.sum, l2.sum, rtol=1e-5)
    assert float(l1.metrics["nsentences"][0]) == float(l2.metrics["nsentences"][0]) == len(data)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-3), g1, g2)


def test_a_task_is_made_again_from_its_assets(folder):
    cfg = resolved(folder, task={"output_dictionary_size": 100})
    task = tasks.setup(cfg)
    assert task.vocab_sizes == {"source_vocab_size": 312, "target_vocab_size": 100}
    again = tasks.from_assets(cfg, task.assets())
    assert again.vocab == task.vocab and again.config == task.config
    ids = task.encode_source("the @@ unheard-of")
    assert again.decode_target(ids) == task.decode_target(ids)
    targets = np.concatenate([task.dataset("valid").block(i)[1] for i in range(20)])
    assert targets.max() < 100 and (targets == 3).any()


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (dict(task={"data": "nowhere"}), "nowhere: no such folder"),
        (dict(task={"data": ""}), "name the folder"),
        (dict(loss={"name": "adaptive_loss"}), "adaptive_softmax_cutoff"),
        (dict(task={"tokens_per_sample": 0}), "tokens_per_sample"),
        (dict(task={"sample_break_mode": "line"}), "'line' is not one of"),
    ],
)
def test_wrong_configurations_are_refused(folder, sections, message):
    with pytest.raises(ConfigError, match=message):
        config = resolved(folder, **sections)
        checks.check(config)
        tasks.setup(config)


def test_blocks_longer_than_the_model_are_named(folder):
    config = resolved(folder, task={"tokens_per_sample": 64, "sample_break_mode": "none"},
                      model={"max_target_positions": 32}, train={"max_update": 1})
    with pytest.raises(ConfigError, match="tokens_per_sample is 64, but the model takes 32"):
        parts.prepare(config)


def test_another_dictionary_is_refused(folder, tmp_path):
    task = tasks.setup(resolved(folder))
    (tmp_path / "dict.txt").write_text("a 1\nb 1\n")
    with pytest.raises(ConfigError, match="312 entries there, 6 here"):
        task.check_folder(str(tmp_path))


def test_missing_splits_are_named(folder, tmp_path):
    shutil.copytree(folder / "data-bin", tmp_path / "bin")
    task = tasks.setup(resolved(tmp_path, task={"data": str(tmp_path / "bin")}))
    with pytest.raises(FileNotFoundError, match="train.bin"):
        task.dataset("train")


def test_features_are_those_that_predict_the_next_token(folder, checkpoint):
    lm = hub.load(checkpoint, data=folder / "data-bin", quiet=True)
    ids = [2, *lm.encode("the la@@ id")[:-1].tolist()]
    states, every = lm.extract_features(ids), lm.extract_features(ids, all=True)
    model, params = lm.models[0], lm.params[0]
    wanted = model.features(params, np.array([ids], np.int32))
    np.testing.assert_allclose(states, wanted.hidden[0], atol=1e-5)
    assert every.shape == (model.config.decoder_layers + 1, len(ids), states.shape[1])
    found, other = lm.extract_features(["the la@@ id", "and"])
    np.testing.assert_allclose(found, states, atol=1e-5)
    assert len(other) == 2
    with pytest.raises(AttributeError, match="LanguageModel has no fill_mask: .* fill masks"):
        lm.fill_mask("a <mask>")
    with pytest.raises(ConfigError, match="reads one text, and was given 2"):
        lm.encode("a", "b")


def test_the_python_api_scores_and_continues_text(folder, checkpoint):
    lm = hub.load(checkpoint, data=folder / "data-bin")
    lm.task = dataclasses.replace(
        lm.task, config=dataclasses.replace(lm.task.config, post_process="@@ "))
    texts = ["the la@@ id", "and", "you la@@ id your the"]
    scored = lm.score(texts)
    assert [h.text for h in scored] == [t.replace("@@ ", "") for t in texts]
    ids = [lm.encode(t)[:-1] for t in texts]
    table = lm.log_probs([[2, *row[:-1]] for row in ids])
    assert table.shape == (3, 5, 312)
    for row, h, lprobs in zip(ids, scored, table, strict=True):
        expected = lprobs[np.arange(len(row)), row]
        np.testing.assert_allclose(h.positional_scores, expected, atol=1e-6)
        assert h.score == pytest.approx(expected.mean())
    out = lm.sample("you la@@ id your", max_len_b=12)
    assert out.startswith("you laid your") and isinstance(out, str)
    [best] = lm.generate([ids[0]], beam=4, nbest=2, max_len_b=12)
    assert len(best) == 2 and best[0].tokens[:3].tolist() == ids[0].tolist()
    assert lm.generate(texts[:2], beam=2, max_len_b=12)[1] != []
    with pytest.raises(ValueError, match="text 1 is empty"):
        lm.score(["a", ""])


def test_generate_wants_prompts_from_a_file(folder, checkpoint, tmp_path):
    with pytest.raises(ConfigError, match="seqjax.evaluate"):
        generate.main(["--checkpoint", checkpoint, "--data", str(folder / "data-bin"),
                       "--subset", "valid"])
    (tmp_path / "prompts").write_text("you la@@ id\n")
    generate.main(["--checkpoint", checkpoint, "--data", str(folder / "data-bin"),
                   "--input", str(tmp_path / "prompts"), "--output", str(tmp_path / "out"),
                   "--beam", "1", "--max-len-b", "8"])
    assert (tmp_path / "out").read_text().startswith("you la@@ id")


@pytest.mark.parametrize("name", ["learned", "adaptive"])
def test_continuations_score_as_teacher_forced(name):
    """Beam search after prompts, the cache growing, by the model's own log-probabilities."""
    golden = family_goldens.load(f"transformer_lm/{name}")
    model, params = golden.model, golden.params
    prompts = [[5, 7, 9], [4], []]
    decoder = Decoder(model, GenerationConfig(beam=3, nbest=2, max_len_b=14))
    found = decoder.decode(params, [[2]] * 3, prefixes=prompts)
    log_probs = jax.jit(lambda tokens: jax.nn.log_softmax(model.features(params, tokens).logits()))
    for prompt, hypotheses in zip(prompts, found, strict=True):
        assert len(hypotheses) == 2
        for h in hypotheses:
            assert h.tokens[: len(prompt)].tolist() == prompt and h.tokens[-1] == 2
            previous = np.full((1, 16), 1, np.int32)
            previous[0, : len(h.tokens)] = [2, *h.tokens[:-1]]
            lprobs = np.asarray(log_probs(previous))[0, : len(h.tokens)]
            expected = np.take_along_axis(lprobs, h.tokens[:, None], 1)[:, 0]
            np.testing.assert_allclose(h.positional_scores, expected, atol=1e-5)
