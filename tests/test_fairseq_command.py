"""`convert args`: whatever form a command has, every flag is honoured, refused or named."""

from __future__ import annotations

import itertools
import json
import re

import pytest

from seqjax import convert, models
from seqjax.config import ConfigError, to_plain
from seqjax.hub import resolve
from seqjax.interop.fairseq import command as fairseq_command
from seqjax.interop.fairseq import flags as fairseq_flags
from seqjax.interop.fairseq import names as fairseq_names
from seqjax.interop.fairseq import recipe as fairseq_recipe

BASE = "fairseq-train data-bin --arch transformer --max-tokens 100 --optimizer adam"


def converted(command):
    """(resolved configuration as plain data, recipe)."""
    recipe = fairseq_recipe.from_command(command)
    return to_plain(resolve(recipe.raw)), recipe


def said(recipe):
    return [*recipe.notes, *recipe.unsupported, *recipe.unneeded]


def mentions(lines, flag):
    return sum(bool(re.search(re.escape(flag) + r"(?![\w-])", line)) for line in lines)


# ---- forms of a command ----


def test_parsing():
    command = fairseq_command.parse(
        "fairseq-generate data-bin --path a.pt:b.pt --beam=5 --remove-bpe --lenpen -0.5 "
        "--sampling --max-sentences 8 --print-alignment hard --quiet # a comment")
    assert command.program == "fairseq-generate" and command.data == "data-bin"
    assert command.given == {
        "path": "a.pt:b.pt", "beam": "5", "post_process": "subword_nmt", "lenpen": "-0.5",
        "sampling": True, "batch_size": "8", "print_alignment": "hard", "quiet": True}
    with pytest.raises(ConfigError, match="unknown flag --path"):
        fairseq_command.parse("fairseq-train d --arch transformer --path x.pt")


@pytest.mark.parametrize("command", [
    "python train.py DATA ARGS",
    "python -u fairseq_cli/train.py DATA ARGS",
    "python3 -m fairseq_cli.train DATA ARGS",
    "env PYTHONUNBUFFERED=1 /opt/bin/fairseq-train ARGS DATA",
    "fairseq-train \\\n  DATA \\\n  ARGS",
    "fairseq-train \\\r\n  DATA \\\r\n  ARGS",
    "fairseq-train DATA ARGS > log.txt 2>&1 &",
    "fairseq-train DATA ARGS 2>&1 | tee train.log",
    "fairseq-train DATA ARGS; echo done",
    "fairseq-train DATA ARGS && fairseq-generate DATA --path x.pt",
    "nohup fairseq-train DATA ARGS   # the first try",
    "fairseq-train --lr 9 DATA ARGS",
])
def test_forms_of_a_command(command):
    arguments = ("--arch transformer -s de -ten --max-sentences 8 --lr=1e-3 "
                 "--adam-betas '(0.9, 0.98)' --share-all-emb --fp16")
    found = fairseq_command.parse(command.replace("DATA", "'my data'").replace(
        "ARGS", arguments).replace("--adam", "--optimizer adam --adam"))
    assert found.program == "fairseq-train" and found.data == "my data"
    assert found.given == {
        "arch": "transformer", "source_lang": "de", "target_lang": "en", "batch_size": "8",
        "lr": "1e-3", "adam_betas": "(0.9, 0.98)", "share_all_embeddings": True, "fp16": True,
        "optimizer": "adam"}


@pytest.mark.parametrize("before, workers, forced", [
    ("", None, False),
    ("CUDA_VISIBLE_DEVICES=0", 1, False),
    ("CUDA_VISIBLE_DEVICES=4,5,6,7 OMP_NUM_THREADS=1", 4, False),
    ("torchrun --nproc_per_node=8", 8, True),
    ("torchrun --nproc-per-node 8 --nnodes 2", 16, True),
    ("python -m torch.distributed.launch --nproc_per_node=8 --nnodes=2 --node_rank=0 "
     '--master_addr="192.168.1.1" --master_port=12345', 16, True),
])
def test_workers_of_the_launcher_multiply_the_budget(before, workers, forced):
    program = "$(which fairseq-train)" if forced else "fairseq-train"
    command = f"{before} {BASE.replace('fairseq-train', program)} --batch-size 4"
    found = fairseq_command.parse(command)
    assert (found.workers, found.forced) == (workers, forced)
    config, recipe = converted(command)
    assert config["batching"]["max_tokens"] == 100 * (workers or 1)
    assert config["batching"]["max_sentences"] == 4 * (workers or 1)
    config, _ = converted(command + " --distributed-world-size 3")
    assert config["batching"]["max_tokens"] == 100 * (workers if forced else 3)


@pytest.mark.parametrize("words, wrong", [
    ("--arch transformer --max-tokens", "--max-tokens needs a value"),
    ("--arch transformer --max-tokens 8 other", "'d' and 'other' cannot both be the data"),
    ("--arch transformer --max-tok 8", "--max-tok may be any of --max-tokens, --max-tokens-valid"),
    ("--arch transformer --fp16=perhaps", "--fp16 is on or off"),
    ("--arch transformer --max-tokens 8 --adam-betas '(0.9", "No closing quotation"),
    ("--max-tokens 8", "--arch is needed"),
    ("--arch transformer --dropout 0.1", "give --max-tokens or --batch-size"),
    ("--arch transformer --max-tokens 0", "--max-tokens 0: give 1 or more"),
    ("--arch transformer --max-tokens 8 --save-interval 0", "--save-interval 0: fairseq divides"),
    ("--arch transformer --max-tokens 8 --lr 1,2 --lr-scheduler inverse_sqrt",
     r"takes one.*\(--lr, --lr-scheduler\)"),
    ("--arch transformer --max-tokens 8 --lr-scheduler polynomial_decay", "total_num_update"),
    ("--arch transformer --max-tokens 8 --best-checkpoint-metric bleu", "give --eval-bleu"),
    ("--arch transformer --max-tokens 8 --best-checkpoint-metric accuracy", "--report-accuracy"),
    ("--arch transformer --max-tokens 8 --eval-bleu --eval-bleu-args beam=4", "cannot be read"),
])
def test_what_is_wrong_is_said(words, wrong):
    with pytest.raises(ConfigError, match=wrong):
        fairseq_recipe.from_command(f"fairseq-train d {words}")


def test_hydra_and_other_programs_are_told_apart():
    with pytest.raises(ConfigError, match="fairseq-hydra-train: keys of the form group.key=value"):
        fairseq_recipe.from_command("fairseq-hydra-train task.data=/d --config-name base")
    with pytest.raises(ConfigError, match="only fairseq-train becomes a configuration"):
        fairseq_recipe.from_command("fairseq-generate d --path model.pt")
    with pytest.raises(ConfigError, match="give a whole command"):
        fairseq_recipe.from_command("d --arch transformer")


def test_booleans_as_older_versions_had_them():
    given = fairseq_command.parse(
        "fairseq-train --left-pad-source False --fp16=False --eval-bleu True data "
        "--arch transformer").given
    assert (given["left_pad_source"], given["fp16"], given["eval_bleu"]) == (False, False, True)


# ---- what is not here ----


@pytest.mark.parametrize("words, named", [
    ("--task text_to_speech --arch multires_hubert --criterion nat_loss",
     ["task 'text_to_speech' of fairseq is not in seqjax yet; here: audio_finetuning",
      "architecture 'multires_hubert' of fairseq is not in seqjax yet; here: architectures of the "
      "families bart,", "criterion 'nat_loss' of fairseq is not in seqjax yet"]),
    ("--config-yaml c.yaml --task text_to_speech --arch tts_transformer",
     ["task 'text_to_speech' of fairseq is not", "architecture 'tts_transformer' of fairseq"]),
    ("--arch=multires_hubert --untie-final-proj",
     ["architecture 'multires_hubert' of fairseq is not"]),
    ("-a levenshtein_transformer --noise random_delete",
     ["architecture 'levenshtein_transformer' of fairseq is not"]),
    ("--arch transformer --criterion nat_loss --label-smoothing 0.1",
     ["criterion 'nat_loss' of fairseq is not in seqjax yet; here: adaptive_loss"]),
    ("--arch transformer --optimizer adagrad",
     ["optimizer 'adagrad' of fairseq is not in seqjax yet; here: adafactor, adam, nag, sgd"]),
    ("--arch transformer --lr-scheduler reduce_lr_on_plateau --lr-patience 2",
     ["lr-scheduler 'reduce_lr_on_plateau' of fairseq is not in seqjax yet; here: cosine"]),
    ("--arch transfromer", ["there is no architecture 'transfromer', here or in fairseq. "
                            "Did you mean 'transformer'?"]),
    ("--arch transformer --task translaton", ["there is no task 'translaton'",
                                              "Did you mean 'translation'?"]),
    ("--arch transformer --optimizer qqq", ["there is no optimizer 'qqq', here or in fairseq. "
                                            "Here are the optimizers adafactor"]),
    ("--user-dir mine --task mine --arch mine_base --mine 3", [
        "task 'mine' is not fairseq's but of --user-dir"]),
])
def test_what_is_not_here_is_said_before_any_flag(words, named):
    with pytest.raises(ConfigError) as error:
        fairseq_recipe.from_command(f"fairseq-train data-bin --max-tokens 100 {words}")
    message = str(error.value)
    assert all(text in message for text in named), message
    assert "unknown flag" not in message and "\n" not in message
    assert not re.search(r"Did you mean '-", message)


def test_fairseq_has_every_name_that_is_here_and_they_are_told_apart():
    known, ours = fairseq_names.registered(), fairseq_names.here()
    for kind, names in ours.items():
        assert {(kind, name) for name in names} <= set(known)
    for kind, name in known:
        if kind not in ours or name in ours[kind]:
            continue
        with pytest.raises(ConfigError, match=f"{name!r} of fairseq is not in seqjax yet"):
            fairseq_names.check({kind: name}, where="x")
        if len(name) > 8:  # a letter less
            with pytest.raises(ConfigError, match="there is no .* Did you mean"):
                fairseq_names.check({kind: name[:4] + name[5:] + "q"}, where="x")


def test_a_checkpoint_of_another_task_says_so_first():
    from seqjax.interop.fairseq.config import FairseqConfig

    config = FairseqConfig(arch="roberta_base", model={"arch": "roberta_base"}, groups={
        "task": {"_name": "sentence_similarity"}, "criterion": {"_name": "masked_lm"}})
    with pytest.raises(ConfigError, match="no task 'sentence_similarity', here or in fairseq"):
        fairseq_recipe.from_fairseq(config)


# ---- every flag ----

VALUES = {
    "--activation-dropout": "0.2", "--attention-dropout": "0.2", "--input-dropout": "0.2",
    "--relu-dropout": "0.2", "--weight-dropout": "0.2", "--label-smoothing": "0.3",
    "--decoder-dropout-in": "0.2", "--decoder-dropout-out": "0.2", "--encoder-dropout-in": "0.2",
    "--encoder-dropout-out": "0.2", "--decoder-layerdrop": "0.2", "--encoder-layerdrop": "0.2",
    "--adaptive-softmax-dropout": "0.2", "--dropout": "0.2",
    "--adaptive-softmax-cutoff": "100,200", "--adaptive-input-cutoff": "100,200",
    "--adam-betas": "(0.8, 0.9)", "--adafactor-eps": "(1e-20, 1e-2)", "--activation-fn": "gelu",
    "--decoder-attention": "False", "--decoder-layers": "[(512, 3)] * 2",
    "--encoder-layers": "[(512, 3)] * 2", "--decoder-attention-heads": "4",
    "--encoder-attention-heads": "4", "--phase-ratio": "(0.1, 0.1, 0.8)",
    "--optimizer-overrides": "{'weight_decay': 0.1}", "--shorten-method": "truncate",
    "--sample-break-mode": "eos", "--output-dictionary-size": "100",
    "--decoder-conv-dim": "64", "--encoder-conv-dim": "64", "--decoder-conv-type": "lightweight",
    "--encoder-conv-type": "lightweight", "--best-checkpoint-metric": "ppl",
    "--eval-bleu-args": '{"beam": 3}', "--decoder-kernel-size-list": "[3,3,3,3,3,3]",
    "--encoder-kernel-size-list": "[3,3,3,3,3,3]", "--adp-act-fn": "gelu",
    "--layer-type": "trf_adp --adp-num 1", "--blank-mode": "set", "--decoder-dropout": "0.2",
    "--decoder-attention-dropout": "0.2", "--decoder-activation-dropout": "0.2",
    "--final-dropout": "0.2", "--layerdrop": "0.2", "--ema-decay": "0.5",
    "--ema-end-decay": "0.5", "--post-process": "silence", "--w2v-path": "pretrained.pt",
}
"""Values that the flag may have; else a number that is not the default."""
CHOSEN = {"task": "translation", "arch": "transformer", "optimizer": "adam",
          "lr_scheduler": "inverse_sqrt", "criterion": "label_smoothed_cross_entropy"}


def components(flag):
    """Components with which fairseq takes a flag."""
    chosen, extra = dict(CHOSEN), ""
    if flag in fairseq_names.accepted({**chosen, "scoring": "bleu"}):
        return chosen, extra
    ours = fairseq_names.here()
    for (kind, name), entry in fairseq_names.registered().items():
        if flag not in entry.flags:
            continue
        if kind in ("bpe", "tokenizer", "scoring"):
            extra = f" --{kind} {name}"
        elif kind == "switch":
            extra = f" {name}"
        elif kind == "model" and name in models.CONFIGS:
            chosen["arch"] = next(arch for arch, (own, _) in models.ARCHS.items() if own == name)
        elif name in ours.get(kind, ()):
            chosen[kind] = name
        else:
            continue
        break
    if chosen["arch"].endswith("_lm") or chosen["task"] == "language_modeling":
        chosen |= {"task": "language_modeling", "criterion": "cross_entropy"}
        chosen["arch"] = chosen["arch"] if chosen["arch"].endswith("_lm") else "transformer_lm"
    if chosen["task"] in ("sentence_prediction", "sentence_ranking"):  # which train a head
        chosen |= {"arch": "roberta_base", "criterion": chosen["task"]}
        extra += "" if flag == "--num-classes" else " --num-classes 2"
    if chosen["criterion"] == "wav2vec" and flag != "--infonce":
        extra += " --infonce"
    return chosen, extra + (" --decay-steps 9" if chosen["lr_scheduler"] == "tri_stage" else "")


def valued(flag):
    name = flag.names[0]
    if flag.kind in ("switch", "off"):
        return name
    if name in VALUES:
        return f"{name} {VALUES[name]!r}" if "'" not in VALUES[name] else f'{name} "{VALUES[name]}"'
    try:
        return f"{name} {float(flag.default) + 3:g}"
    except ValueError:
        return f"{name} 3"


TRAINING = [f for f in fairseq_flags.table() if "T" in f.commands and f.dest not in CHOSEN]


def outcome(command, flag, base):
    """Whether the flag changed the configuration, was named, or was refused by name."""
    try:
        before, recipe = converted(base)
        spoken = mentions(said(recipe), flag)
    except ConfigError as error:  # what fairseq does without the flag is not here
        assert flag.removeprefix("--") in str(error)
        before, spoken = None, 0
    try:
        after, recipe = converted(command)
    except ConfigError as error:
        return "refused" if mentions([str(error)], flag) else f"refused without its name: {error}"
    if mentions(said(recipe), flag) > spoken:
        return "named"
    return "honoured" if after != before else "vanished"


@pytest.mark.parametrize("flag", TRAINING, ids=lambda f: f.names[0])
def test_no_flag_vanishes(flag):
    chosen, extra = components(flag.names[0])
    base = "fairseq-train d --max-tokens 100 --max-update 9999" + extra + "".join(
        f" --{k.replace('_', '-')} {v}" for k, v in chosen.items())
    found = outcome(f"{base} {valued(flag)}", flag.names[0], base)
    assert found in ("honoured", "named", "refused")
    if flag.key == "(no)" and flag.dest not in ("lr_patience", "lr_threshold"):
        assert found in ("named", "refused")


@pytest.mark.parametrize("flag", [f for f in TRAINING if f.dest != "use_bmuf"],
                         ids=lambda f: f.names[0])
@pytest.mark.parametrize("base", [
    "fairseq-train d --max-tokens 100 --arch lstm --optimizer sgd --lr-scheduler fixed",
    "fairseq-train d --max-tokens 100 --arch transformer_lm --task language_modeling "
    "--optimizer nag --lr-scheduler cosine --max-update 99",
    f"{BASE} --disable-validation --no-save --no-epoch-checkpoints",
], ids=["lstm", "lm", "nothing"])
def test_no_flag_vanishes_beside_other_components(flag, base):
    """A flag that fairseq does not take there, or that is without effect there, is named."""
    if flag.names[0] in base:
        return
    assert outcome(f"{base} {valued(flag)}", flag.names[0], base) in (
        "honoured", "named", "refused")


# ---- combinations ----

RESETS = ("optimizer", "lr-scheduler", "meters", "dataloader")


@pytest.mark.parametrize("reset", [c for n in range(5) for c in itertools.combinations(RESETS, n)],
                         ids=lambda c: "+".join(c) or "none")
@pytest.mark.parametrize("source", ["--restore-file m.pt", "--continue-once m.pt",
                                    "--restore-file checkpoint_last.pt", "",
                                    "--finetune-from-model m.pt"])
def test_what_a_run_begins_with(source, reset):
    """What fairseq does with each: tests/goldens/flags/resets.json."""
    flags = [f"--reset-{name}" for name in reset]
    command = f"{BASE} --save-dir ck {source} {' '.join(flags)}"
    if "finetune" in source and reset:
        with pytest.raises(ConfigError, match="fairseq refuses them together"):
            converted(command)
        return
    config, recipe = converted(command)
    parts = [name for name in ("optimizer", "dataloader") if name in reset]
    begins = (config["init_from"], config["resume_from"], config["resume_reset"])
    assert all(mentions(said(recipe), flag) for flag in flags)
    if "finetune" in source:
        assert begins == ("m.pt", None, [])
    elif "m.pt" not in source:
        assert begins == (None, None, [])
        lines = [line for line in recipe.unsupported if "without --restore-file" in line]
        assert len(lines) == bool(reset)
        if reset:
            way = ("init_from=ck/checkpoint_last.pt" if len(parts) == 2 else
                   "resume_from=ck/checkpoint_last.pt")
            assert way in lines[0] and all(flag in lines[0] for flag in flags)
            if len(parts) == 1:
                assert f"--config.resume_reset={parts[0]}" in lines[0]
    elif len(parts) == 2:
        assert begins == ("m.pt", None, [])
    else:
        assert begins == (None, "m.pt", parts)


def test_an_encoder_that_recognition_trained():
    """fairseq's --load-pretrained-encoder-from; weights of a whole model go before it."""
    command = ("fairseq-train data --task speech_to_text --arch s2t_transformer_s --max-tokens 9 "
               "--optimizer adam --lr 1e-3 --load-pretrained-encoder-from asr.pt")
    recipe = fairseq_recipe.from_command(command)
    assert (recipe.raw["init_from"], recipe.raw["init_parts"]) == ("asr.pt", "encoder")
    assert not recipe.unsupported
    recipe = fairseq_recipe.from_command(f"{command} --finetune-from-model st.pt")
    assert recipe.raw["init_from"] == "st.pt" and "init_parts" not in recipe.raw
    assert any("--load-pretrained-encoder-from asr.pt: without effect" in n for n in recipe.notes)


def test_the_recorded_runs_agree_with_that(repository):
    """Of fairseq's own runs: update count and rate tell the optimizer, losses the data."""
    file = repository / "tests" / "goldens" / "flags" / "resets.json"
    runs = json.loads(file.read_text(encoding="utf-8"))["runs"]
    assert len(runs) >= 19
    for run in runs:
        flags = " ".join(f'"{f}"' for f in run["flags"])
        config, _ = converted(f"{BASE} {flags}")
        reset = set(config["resume_reset"]) | (
            {"optimizer", "dataloader"} if config["init_from"] else set())
        (_, updates, rate, loss), *_ = run["updates"]
        assert (updates, rate) == ((1, 2e-4) if "optimizer" in reset else (21, 0.00138013))
        assert loss == (7.679 if "dataloader" in reset else 7.8)


def test_a_restored_run_with_other_flags():
    with pytest.raises(ConfigError, match="--finetune-from-model and --restore-file"):
        converted(f"{BASE} --finetune-from-model a.pt --restore-file b.pt")
    config, recipe = converted(f"{BASE} --continue-once a.pt --restore-file b.pt")
    assert config["resume_from"] == "b.pt" and mentions(recipe.notes, "--continue-once")
    config, recipe = converted(f"{BASE} --continue-once a.pt --finetune-from-model b.pt")
    assert config["resume_from"] == "a.pt" and mentions(recipe.notes, "--finetune-from-model")

    overrides = ("--weight-decay 0.5 --optimizer-overrides "
                 "\"{'betas': (0.5, 0.6), 'lr': 1, 'x': 1}\"")
    config, recipe = converted(f"{BASE} --restore-file a.pt {overrides}")
    assert config["optimizer"]["adam_betas"] == [0.5, 0.6]
    assert config["optimizer"]["weight_decay"] == 0.5
    assert any("--optimizer-overrides x=1" in line for line in recipe.unsupported)
    config, recipe = converted(f"{BASE} --restore-file a.pt --reset-optimizer {overrides}")
    assert config["optimizer"]["adam_betas"] == [0.9, 0.999]
    assert mentions(recipe.notes, "--optimizer-overrides")
    _, recipe = converted(f"{BASE} {overrides}")
    assert mentions(recipe.unsupported, "--optimizer-overrides")
    with pytest.raises(ConfigError, match="is not a dict"):
        converted(f"{BASE} --restore-file a.pt --optimizer-overrides lr=3")


@pytest.mark.parametrize("words, checkpoint, valid", [
    ("", {"keep_last": 1, "keep_last_epochs": -1}, {}),
    ("--save-interval 5 --keep-last-epochs 3", {"every_epochs": 5, "keep_last_epochs": 3}, {}),
    ("--keep-last-epochs 0", {"keep_last_epochs": -1}, {}),
    ("--no-epoch-checkpoints", {"keep_last": 1, "keep_last_epochs": 0}, {}),
    ("--no-epoch-checkpoints --keep-last-epochs 3", {"keep_last_epochs": 0}, {}),
    ("--save-interval-updates 50", {"every_updates": 50, "keep_interval_updates": -1},
     {"at_checkpoints": True}),
    ("--save-interval-updates 50 --keep-interval-updates 4 --keep-interval-updates-pattern 200",
     {"every_updates": 50, "keep_interval_updates": 4, "keep_every_updates": 200},
     {"at_checkpoints": True}),
    ("--save-interval-updates 50 --validate-interval-updates 30",
     {"every_updates": 50, "every_epochs": 1}, {"at_checkpoints": True, "every_updates": 30}),
    ("--keep-interval-updates 4", {"keep_interval_updates": 0}, {}),
    ("--validate-interval-updates 30", {"every_epochs": 1}, {"every_updates": 30}),
    ("--validate-interval 2", {"every_epochs": 1}, {"every_epochs": 2}),
    ("--keep-best-checkpoints 3", {"keep_best": 3}, {}),
    ("--validate-after-updates 70", {}, {"after_updates": 70}),
    ("--patience 4", {}, {"patience": 4}),
    ("--best-checkpoint-metric ppl --maximize-best-checkpoint-metric", {},
     {"metric": "ppl", "maximize": True}),
    ("--maximize-best-checkpoint-metric", {}, {"metric": "loss", "maximize": True}),
    ("--eval-bleu --best-checkpoint-metric bleu --maximize-best-checkpoint-metric", {},
     {"metric": "bleu", "maximize": True, "samples": 0}),
    ("--eval-bleu --best-checkpoint-metric bleu", {}, {"metric": "bleu", "maximize": None}),
    ("--disable-validation --save-interval 2", {"every_epochs": 2}, {"enabled": False}),
])
def test_saving_and_validating(words, checkpoint, valid):
    config, recipe = converted(f"{BASE} {words}")
    assert {k: config["checkpoint"][k] for k in checkpoint} == checkpoint
    assert {k: config["valid"][k] for k in valid} == valid
    if words.endswith("--best-checkpoint-metric bleu"):
        assert "lowest bleu" in " ".join(recipe.notes)


@pytest.mark.parametrize("words, flag", [
    ("--eval-bleu-args '{\"beam\": 2}'", "--eval-bleu-args"),
    ("--keep-interval-updates 4", "--keep-interval-updates"),
    ("--keep-interval-updates-pattern 4 --save-interval-updates 2",
     "--keep-interval-updates-pattern"),
    ("--no-epoch-checkpoints --keep-last-epochs 3", "--keep-last-epochs"),
    ("--disable-validation --patience 3", "--patience"),
    ("--no-save --save-interval 3", "--save-interval"),
    ("--warmup-init-lr 1e-5 --lr-scheduler cosine --max-update 9", "--warmup-init-lr"),
    ("--lr-shrink 0.5", "--lr-shrink"),
    ("--adam-betas (0.9,0.98) --optimizer nag", "--adam-betas"),
    ("--label-smoothing 0.1 --criterion cross_entropy", "--label-smoothing"),
    ("--tokens-per-sample 5", "--tokens-per-sample"),
    ("--decoder-glu True", "--decoder-glu"),
    ("--ddp-backend slowmo", "--ddp-backend"),
    ("--ddp-backend no_c10d", "--ddp-backend"),
    ("--valid-subset valid,test", "--valid-subset"),
    ("--fp16 --memory-efficient-fp16", "--memory-efficient-fp16"),
    ("--tensorboard-logdir tb", "--tensorboard-logdir"),
    ("--min-lr 1e-9 --lr-scheduler inverse_sqrt", "--min-lr"),
    ("--save-dir $CKPTS", "$CKPTS"),
])
def test_a_flag_without_effect_is_named(words, flag):
    command = f"{BASE} {words}".replace("(0.9,0.98)", "'(0.9,0.98)'")
    assert mentions(said(converted(command)[1]), flag)


def test_small_things_that_were_lost():
    assert converted(f"{BASE} --seed 0")[0]["seed"] == 0
    assert converted(f"{BASE} --min-lr 1e-9 --lr-scheduler inverse_sqrt")[0]["train"][
        "stop_min_lr"] == 1e-9
    config, recipe = converted(f"{BASE} --min-lr 1e-9 --lr-scheduler cosine --max-update 9")
    assert config["schedule"]["min_lr"] == 1e-9 and config["train"]["stop_min_lr"] == -1
    assert converted(f"{BASE} --eval-bleu --eval-bleu-print-samples")[0]["valid"]["samples"] == 2


def test_the_command_prints_all_of_it(capsys):
    convert.main(["args", *BASE.split(), "--num-workers", "4", "--no-save", "--reset-optimizer"])
    out, err = capsys.readouterr()
    assert "not honoured: --no-save: a run without checkpoints is not possible" in err
    assert "not honoured: --reset-optimizer: without --restore-file" in err
    assert "nothing to set for: --num-workers 4 (the file says why)" in err
    assert "    --num-workers 4: batching.prefetch" in out and "def get_config" in out


def test_searches_of_validations_of_recognisers():
    """fairseq's `eval_wer_config`, and `normalize`, which the model takes from the task."""
    command = ("fairseq-train d --task audio_finetuning --labels ltr --arch wav2vec_seq2seq "
               "--w2v-path p.pt --autoregressive --max-tokens 100 --max-update 9 "
               "--criterion cross_entropy --beam 7 --max-len-a 0.5")
    config, recipe = converted(command + " --eval-wer")
    assert config["generation"]["beam"] == 7 and config["generation"]["max_len_a"] == 0.5
    assert config["valid"]["decode"] and config["task"]["eval_wer"]
    _, recipe = converted(command)
    assert "--beam 7: without effect without --eval-wer" in recipe.unneeded
