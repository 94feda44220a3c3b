"""Training with language tokens, from several pairs of one folder; templates of `seq2seq`."""

from __future__ import annotations

import functools
import pathlib
import shutil

import jax
import numpy as np
import pytest
import tiny_run
from tiny_checkpoint import write_checkpoint

from seqjax import evaluate, generate, hub, interactive, tasks
from seqjax.config import ConfigError
from seqjax.data.pipeline import epoch_batches
from seqjax.data.planning import make_plan
from seqjax.data.vocabulary import Vocabulary
from seqjax.training import train_loop

DATA = pathlib.Path(__file__).parent / "goldens" / "multilingual" / "data"
MULTI = {"name": "translation_multi_simple_epoch", "data": str(DATA),
         "lang_pairs": ("aa-bb", "bb-aa", "aa-cc"), "encoder_langtok": "src",
         "decoder_langtok": True}
MBART = {"name": "translation_from_pretrained_bart", "data": str(DATA), "source_lang": "aa",
         "target_lang": "bb", "langs": ("aa", "bb", "cc")}


def config(task, **sections):
    raw = tiny_run.raw_config(DATA, **sections)
    return tiny_run.resolve({**raw, "task": task, "model": {
        **raw["model"], "share_all_embeddings": True, **sections.get("model", {})}})


@functools.cache
def trained(root):
    """A run that learns all three directions."""
    size = {f"{side}_{key}": value for side in ("encoder", "decoder")
            for key, value in dict(embed_dim=24, ffn_embed_dim=32).items()}
    made = config(
        {**MULTI, "sampling_method": "temperature", "sampling_temperature": 3.0},
        model={**size, "dropout": 0.0}, train={"lr": [0.01], "max_update": 220},
        batching={"max_tokens": 256, "pack_length": 32},
        valid={"decode": True, "every_updates": 110, "metric": "bleu", "decode_sentences": 9})
    train_loop.train(made, workdir=str(root / "run"))
    return root / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("many"))


def test_one_model_learns_all_directions(run):
    """Words of the language that was asked for; BLEU counts no language tokens."""
    valid = [m for m in tiny_run.metrics(run, "valid") if "bleu" in m]
    assert len(valid) > 1 and valid[-1]["bleu"] > 8
    model = hub.load(run, quiet=True)
    for source, target in (("aa", "bb"), ("bb", "aa"), ("aa", "cc")):
        pair = "-".join(sorted((source, target)))
        lines = (DATA / "text" / f"test.{pair}.{source}").read_text().splitlines()
        found = model.translate(lines, source_lang=source, target_lang=target)
        words = [w for line in found for w in line.split()]
        assert len(words) >= 6
        assert sum(w.startswith(target) for w in words) > 0.95 * len(words)


def test_commands_choose_among_its_languages(run, tmp_path, capsys):
    text = tmp_path / "in"
    text.write_text("aa1 aa2 aa3\n")
    base = ["--checkpoint", str(run), "--input", str(text), "--quiet"]
    expected = hub.load(run, quiet=True).translate(
        "aa1 aa2 aa3", source_lang="aa", target_lang="cc")
    for verb in (generate, interactive):
        verb.main([*base, "--source-lang", "aa", "--target-lang", "cc"])
        assert capsys.readouterr().out.strip() == expected
    with pytest.raises(ConfigError, match="source_lang: say which language"):
        generate.main(base)
    with pytest.raises(ConfigError, match="'dd'. Did you mean|no language 'dd'"):
        generate.main([*base, "-s", "aa", "-t", "dd"])
    same = ["--langs", "aa,bb,cc", "--encoder-langtok", "src", "--decoder-langtok"]
    generate.main([*base, *same, "-s", "aa", "-t", "cc"])
    assert capsys.readouterr().out.strip() == expected
    with pytest.raises(ConfigError, match="--encoder-langtok tgt: .* encoder_langtok='src'"):
        generate.main([*base, "--encoder-langtok", "tgt", "-s", "aa", "-t", "cc"])
    with pytest.raises(ConfigError, match="--fixed-dictionary"):
        generate.main([*base, "--fixed-dictionary", "x", "-s", "aa", "-t", "cc"])


def test_a_split_is_of_one_pair_or_of_all(run, capsys):
    found = {}
    for words in ((), ("-s", "aa", "-t", "bb"), ("-s", "bb", "-t", "aa"), ("-s", "aa", "-t", "cc")):
        evaluate.main(["--checkpoint", str(run), "--data", str(DATA), "--subset", "valid", "--json",
                       "--quiet", *words])
        found[words[1::2]] = capsys.readouterr().out
    tokens = {k: int(v.partition('"tokens": ')[2].partition(",")[0]) for k, v in found.items()}
    assert tokens[()] == sum(v for k, v in tokens.items() if k)
    model = hub.load(run, quiet=True)
    with pytest.raises(ConfigError, match="source_lang: say which language"):
        model.split(str(DATA), "test")


def test_every_pair_is_in_a_validation():
    task = tasks.setup(config(MULTI))
    dataset = task.dataset("valid")
    assert len(dataset) == 18 and dataset.corpus_bounds == (6, 12, 18)
    assert list(task._evaluated(dataset, 5)) == [0, 1, 6, 7, 12]
    assert list(task._evaluated(dataset, 0)) == list(range(18))
    vocab = task.target_vocab
    for i, token in ((0, "__bb__"), (7, "__aa__"), (17, "__cc__")):
        assert vocab[dataset.sentence(i)[1][0]] == token
        assert task._form_of(dataset, i).first == (vocab.index(token),)


def losses(made):
    """The loss of the split valid."""
    task = tasks.setup(made)
    from seqjax import models
    from seqjax.training import objective

    model = models.build(made.model, **task.vocab_sizes, compute_dtype=np.float32)
    params = model.init(jax.random.key(0))
    fn = objective.loss_function(task, model, made.loss, sentence_avg=False)
    dataset = task.dataset("valid")
    total = 0.0
    for mode in (made.batching,):
        plan = make_plan(dataset.lengths, mode, seed=1, train=False)
        for batch in epoch_batches(plan, dataset):
            output, _ = fn(params, {}, batch.arrays, None, np.int32(0))
            total += float(output.sum)
    return total


@pytest.mark.parametrize("more", [
    {}, {"decoder_langtok": False}, {"lang_tok_replacing_bos_eos": True},
    {"lang_tok_style": "mbart", "encoder_langtok": "tgt"}])
def test_packed_rows_and_single_ones_give_one_loss(more):
    """Decoding begins with another token in each pair, several of which share a row."""
    made = [config({**MULTI, **more}, batching={"mode": mode}) for mode in ("packed", "bucketed")]
    assert losses(made[0]) == pytest.approx(losses(made[1]), rel=1e-5)


def test_sampled_epochs_are_longer():
    concat = tasks.setup(config(MULTI)).train_dataset()
    assert concat.mixture is None and len(concat) == 90 + 90 + 40
    sampled = tasks.setup(config({**MULTI, "sampling_method": "uniform"})).train_dataset()
    assert sampled.mixture.epoch_size == 270
    bound = {**MULTI, "sampling_method": "uniform", "virtual_data_size": 50}
    assert tasks.setup(config(bound)).train_dataset().mixture.epoch_size == 50


@pytest.mark.parametrize("task, message", [
    ({**MULTI, "lang_pairs": ()}, "lang_pairs: name the pairs"),
    ({**MULTI, "lang_pairs": ("aabb",)}, "'aabb' is no pair"),
    ({**MULTI, "langs": ("aa", "bb")}, "lang_pairs: aa-cc: cc not among the languages, aa, bb"),
    ({**MULTI, "lang_dict": "nowhere.txt"}, "lang_dict: nowhere.txt: no such file"),
    ({**MULTI, "virtual_data_size": 9}, "virtual_data_size: sampling_method=concat"),
    ({**MULTI, "load_alignments": True, "lang_pairs": ("aa-bb",)}, "load_alignments"),
    ({**MBART, "langs": ()}, "langs: name the languages of the pretraining"),
    ({**MBART, "langs": ("aa", "cc")}, "target_lang: 'bb' is not one of config.task.langs"),
    ({"name": "seq2seq", "data": str(DATA), "source_lang": "aa", "target_lang": "bb",
      "langs": ("aa", "bb"), "source_form": "{source} ... </s>"}, "the dictionary has no 'aa'"),
    ({"name": "seq2seq", "data": str(DATA), "source_lang": "aa", "target_lang": "bb",
      "lang_tok": "__"}, "lang_tok"),
])
def test_what_does_not_fit_is_named_before_training(task, message):
    with pytest.raises(ConfigError, match=message):
        tasks.setup(config(task)).train_dataset()


def test_dictionaries_of_one_side_are_one(tmp_path):
    shutil.copytree(DATA, tmp_path / "data")
    vocab = Vocabulary.load(tmp_path / "data" / "dict.cc.txt")
    vocab.add_symbol("more")
    vocab.save(tmp_path / "data" / "dict.cc.txt")
    with pytest.raises(ConfigError, match="dict.cc.txt: differs from .*dict.bb.txt"):
        tasks.setup(config({**MULTI, "data": str(tmp_path / "data")}))
    fixed = {**MULTI, "data": str(tmp_path / "data"),
             "fixed_dictionary": str(tmp_path / "data" / "dict.aa.txt")}
    assert len(tasks.setup(config(fixed)).source_vocab) == 4 + 27 + 3


def test_a_file_of_pairs_and_one_of_languages(tmp_path):
    (tmp_path / "pairs").write_text("aa-bb,bb-aa,aa-cc\n")
    (tmp_path / "langs").write_text("cc\naa\nbb\n")
    given = {**MULTI, "lang_pairs": (str(tmp_path / "pairs"),),
             "lang_dict": str(tmp_path / "langs")}
    found = tasks.setup(config(given))
    assert found.config.lang_pairs == MULTI["lang_pairs"]
    assert found.source_vocab.symbols[-3:] == ["__cc__", "__aa__", "__bb__"]
    said = {"lang_pairs": found.config.lang_pairs, "langs": found.config.langs}
    again = tasks.from_assets(config({**MULTI, **said}), found.assets())
    assert again.source_vocab == found.source_vocab


# ---- templates ----


SEQ2SEQ = {"name": "seq2seq", "data": str(DATA), "source_lang": "aa", "target_lang": "bb"}
FORMS = {
    "bart": dict(source_form="<s> ... </s>", target_form="<s> ... </s>", decoder_first="<s>"),
    "mbart": dict(source_form="... </s> {source}", target_form="... </s> {target}",
                  decoder_start="{target}", lang_tok="{}1", langs=("aa", "bb", "cc")),
    "nllb": dict(source_form="{source} ... </s>", target_form="{target} ... </s>",
                 decoder_first="{target}", lang_tok="{}1", langs=("aa", "bb", "cc")),
}
"""The first word of each language stands in for its token."""
READ = {"bart": ([0], [2]), "mbart": ([], [2, "aa1"]), "nllb": (["aa1"], [2])}
START = {"bart": 2, "mbart": "bb1", "nllb": 2}
FIRST = {"bart": [0], "mbart": [], "nllb": ["bb1"]}


@pytest.mark.parametrize("form", FORMS)
def test_templates_are_kept_to_everywhere(form, tmp_path):
    made = {**SEQ2SEQ, **FORMS[form]}
    model = hub.load(write_checkpoint(tmp_path / "run", DATA, task=made), quiet=True)
    vocab = model.task.source_vocab

    def ids(symbols):
        return [vocab.index(x) if isinstance(x, str) else x for x in symbols]

    before, after = map(ids, READ[form])
    words = ids(["aa3", "aa4"])
    assert model.encode("aa3 aa4").tolist() == [*before, *words, *after]
    assert model.task.target_form.start == ids([START[form]])[0]
    (found,) = model.generate(["aa3 aa4"], beam=2, max_len_b=6, lenpen=0.0)
    best = found[0]
    assert best.tokens[:len(FIRST[form])].tolist() == ids(FIRST[form])
    # Searching and scoring read the same: the same tokens cost the same.
    (scored,) = model.score(["aa3 aa4"], [best.tokens])
    np.testing.assert_allclose(scored.positional_scores, best.positional_scores, atol=1e-5)
    start = ids([START[form]])
    lprobs = model.log_probs([model.encode("aa3 aa4")], [[*start, *best.tokens[:-1]]])[0]
    np.testing.assert_allclose(lprobs[np.arange(len(best.tokens)), best.tokens],
                               best.positional_scores, atol=1e-5)
    # Ids need not have what stands around their words.
    again = model.generate([[*words, 2]], beam=2, max_len_b=6, lenpen=0.0)
    assert again[0][0].tokens.tolist() == best.tokens.tolist()
    if not FORMS[form].get("langs"):
        with pytest.raises(ConfigError, match="target_lang: 'xx', but this model knows no other"):
            model.translate("aa3", target_lang="xx")


def test_padding_begins_nothing_of_a_model_that_does_not_read_it(tmp_path):
    workdir = write_checkpoint(tmp_path / "run", DATA, task={**SEQ2SEQ, "decoder_start": "<pad>"})
    with pytest.raises(ConfigError, match="decoder_start: .* padding to .*pad_begins"):
        hub.load(workdir, quiet=True)


def test_training_reads_what_searches_begin_with():
    """The loss of a batch is that of the pairs scored one by one."""
    from seqjax import models
    from seqjax.generation.scoring import Scorer

    made = config({**SEQ2SEQ, **FORMS["mbart"]}, loss={"name": "cross_entropy"})
    task = tasks.setup(made)
    model = models.build(made.model, **task.vocab_sizes, compute_dtype=np.float32)
    params = model.init(jax.random.key(0))
    dataset = task.dataset("valid")
    pairs = [dataset.sentence(i) for i in range(len(dataset))]
    found = Scorer(model).score(params, [s for s, _ in pairs], [t for _, t in pairs],
                                starts=[task.target_form.start] * len(pairs))
    total = -sum(float(h.positional_scores.sum()) for h in found)
    assert losses(made) == pytest.approx(total, rel=1e-5)
    plain = Scorer(model).score(params, [s for s, _ in pairs], [t for _, t in pairs])
    assert -sum(float(h.positional_scores.sum()) for h in plain) != pytest.approx(total, rel=1e-3)
