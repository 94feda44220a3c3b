"""Models that compute no numbers: refused when loaded, and, where that was overruled, named
by sentence when they decode or score."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from tiny_checkpoint import write_checkpoint
from tiny_run import write_data
from toy_models import ToyModel

import seqjax
from seqjax import average, convert, evaluate, generate
from seqjax import checkpoints as ck
from seqjax.config import CheckpointConfig, ConfigError, GenerationConfig
from seqjax.generation.decoder import Decoder
from seqjax.generation.finite import ScoreError
from seqjax.generation.scoring import Scorer
from seqjax.training import optimizers, state
from seqjax.training.checkpoints import Checkpoints


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A checkpoint with a NaN, which its checksums agree with."""
    root = tmp_path_factory.mktemp("nan")
    data = write_data(root / "data-bin")
    good = write_checkpoint(root / "good", data)
    folder = ck.find(good)
    params = ck.read_params(folder)
    params["decoder"]["output_projection"]["kernel"][0, :3] = np.nan
    config = ck.read_config(folder)
    with Checkpoints(root / "bad", CheckpointConfig()) as store:
        store.save(
            state.new_state(jax.tree.map(jax.numpy.asarray, params),
                            optimizers.make_optimizer(optimizers.OptimizerConfig())),
            ck.read_record(folder), config=config, assets=ck.read_assets(folder))
    return root / "bad", data


def test_loading(run, tmp_path):
    bad, data = run
    message = r"decoder\.output_projection\.kernel has 3 non-finite values"
    (tmp_path / "in").write_text("aa1 aa2\n")
    for verb, args in ((generate, ["--input", str(tmp_path / "in")]),
                       (evaluate, ["--data", str(data), "--subset", "valid"])):
        with pytest.raises(ConfigError, match=message):
            verb.main(["--checkpoint", str(bad), *args])
        with pytest.raises(ValueError, match=r"finite"):
            verb.main(["--checkpoint", str(bad), "--no-verify", *args])
    with pytest.raises(ConfigError, match=message):
        seqjax.load(bad)


def test_decoding_and_scoring_name_the_sentence(run):
    model = seqjax.load(run[0], verify=False)
    with pytest.raises(ScoreError, match="source 0: no output has a finite score"):
        model.translate("aa1 aa2")
    with pytest.raises(ScoreError, match="source 0"):
        model.generate(["aa1", "aa2"], constraints=[["bb1"], ["bb2"]])
    with pytest.raises(ScoreError, match="pair 0: its scores are not finite"):
        model.score(["aa1"], ["bb1"])
    with pytest.raises(ScoreError, match="source 0"):
        model.log_probs([[4, 2]], [[2, 5]])


def toy():
    model = ToyModel()
    return model, model.init(jax.random.key(0))


def test_one_sentence_of_several():
    """Only sources with a damaged word are wrong, and that one is named."""
    model, params = toy()
    params["source"] = params["source"].at[7].set(np.nan)
    decoder = Decoder(model, GenerationConfig(beam=2, max_len_b=5))
    decoder.decode(params, [[4, 2], [5, 2]])
    with pytest.raises(ScoreError, match="source 2: no output"):
        decoder.decode(params, [[4, 2], [5, 2], [6, 7, 2]])
    with pytest.raises(ScoreError, match="pair 1"):
        Scorer(model).score(params, [[4, 2], [7, 2]], [[4, 2], [4, 2]])


def test_what_search_may_find_nothing_for():
    """Constraints that no output fulfils end in the lone eos of score -inf as before."""
    model, params = toy()
    decoder = Decoder(model, GenerationConfig(beam=2, max_len_b=3, no_repeat_ngram_size=1,
                                              min_len=1))
    decoder.decode(params, [[4, 2]])
    matching = Decoder(model, GenerationConfig(beam=2, match_source_len=True))
    matching.decode(params, [[4, 2]])


def test_converting_averaging_and_fairseq_s_files(run, tmp_path):
    bad, data = run
    message = r"decoder\.output_projection\.kernel has 3 non-finite values"
    file = tmp_path / "model.pt"
    with pytest.raises(ConfigError, match=message):
        convert.main([str(bad), str(file)])
    convert.main([str(bad), str(file), "--no-verify"])
    for call in (lambda: seqjax.load(file, data=data),
                 lambda: convert.main([str(file), str(tmp_path / "to"), "--data", str(data)])):
        with pytest.raises(ConfigError, match=message):
            call()
    seqjax.load(file, data=data, verify=False)
    convert.main([str(file), str(tmp_path / "to"), "--data", str(data), "--no-verify"])
    for inputs, output in (([str(file), str(file)], "mean.pt"), ([str(bad), str(bad)], "mean")):
        args = ["--inputs", *inputs, "--output", str(tmp_path / output)]
        with pytest.raises(ConfigError, match="has 3 non-finite values"):
            average.main(args)
        average.main([*args, "--no-verify"])
