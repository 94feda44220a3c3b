"""RoBERTa on GLUE: one sentence, or a pair, and a class (Liu et al. 2019, arXiv 1907.11692).

Paper:     its fine-tuning of single models on single tasks; fairseq's examples/roberta/config
Expected:  on the dev set, in percent (Matthews' coefficient of CoLA, Pearson's of STS-B, accuracy
           of the others), as fairseq's examples/roberta gives them:

    task           MNLI  QNLI  QQP   RTE   SST-2  MRPC  CoLA  STS-B
    roberta_base   87.6  92.8  91.9  78.7  94.8   90.2  63.6  91.2
    roberta_large  90.2  94.7  92.2  86.6  96.4   90.9  68.0  92.4

Hardware:  one GPU of 32 GB in the paper, minutes (RTE) to a day (MNLI); not run by us at this
           size: the weights and the data are not ours to embed
Data:      GLUE's tables as they are downloaded, glue_data/RTE/train.tsv and so on, and the files
           of the pretrained model: model.pt, dict.txt and GPT-2's encoder.json and vocab.bpe

    for TASK in MNLI QNLI QQP RTE SST-2 MRPC CoLA STS-B; do
        python -m seqjax.preprocess --task sentence_prediction --source glue:glue_data/$TASK \\
            --tokenizer gpt2:roberta.base --srcdict roberta.base/dict.txt --destdir data-bin/$TASK
    done

Train, by the name of the task behind a colon; then the metrics of the dev set:

    python -m seqjax.train --config configs/roberta_glue.py:RTE --workdir runs/RTE \\
        --config.init_from=roberta.base/model.pt
    python -m seqjax.evaluate --checkpoint runs/RTE --subset valid

    python -m seqjax.train --config configs/roberta_glue.py:MNLI --workdir runs/MNLI \\
        --config.init_from=roberta.base/model.pt
    python -m seqjax.train --config configs/roberta_glue.py:QNLI --workdir runs/QNLI \\
        --config.init_from=roberta.base/model.pt
    python -m seqjax.train --config configs/roberta_glue.py:QQP --workdir runs/QQP \\
        --config.init_from=roberta.base/model.pt
    python -m seqjax.train --config configs/roberta_glue.py:SST-2 --workdir runs/SST-2 \\
        --config.init_from=roberta.base/model.pt
    python -m seqjax.train --config configs/roberta_glue.py:MRPC --workdir runs/MRPC \\
        --config.init_from=roberta.base/model.pt
    python -m seqjax.train --config configs/roberta_glue.py:CoLA --workdir runs/CoLA \\
        --config.init_from=roberta.base/model.pt
    python -m seqjax.train --config configs/roberta_glue.py:STS-B --workdir runs/STS-B \\
        --config.init_from=roberta.base/model.pt

The large model: --config.model.arch=roberta_large --config.init_from=roberta.large/model.pt
A folder of Hugging Face's: preprocess with --tokenizer hf:DIR and no --srcdict, and train with
--config.init_from=DIR, of whose config.json the model then is (docs/hugging-face.md)
MNLI's other dev set: python -m seqjax.evaluate --checkpoint runs/MNLI --subset valid1
"""

from ml_collections import ConfigDict

# Task: classes, batch size, peak rate, updates of warm-up (6 %) and in all (10 epochs).
TASKS = {
    "MNLI": (3, 32, 1e-5, 7432, 123873),
    "QNLI": (2, 32, 1e-5, 1986, 33112),
    "QQP": (2, 32, 1e-5, 28318, 113272),
    "RTE": (2, 16, 2e-5, 122, 2036),
    "SST-2": (2, 32, 1e-5, 1256, 20935),
    "MRPC": (2, 16, 1e-5, 137, 2296),
    "CoLA": (2, 16, 1e-5, 320, 5336),
    "STS-B": (1, 16, 2e-5, 214, 3598),
}
METRICS = {"CoLA": "mcc", "STS-B": "pearson"}
REPORTS = {"CoLA": ["report_mcc"], "STS-B": ["report_pearson_and_spearman"],
           "MRPC": ["report_acc_and_f1"], "QQP": ["report_acc_and_f1"]}


def get_config(task: str = "RTE") -> ConfigDict:
    """fairseq's settings for one of `TASKS`."""
    if task not in TASKS:
        raise ValueError(f"there is no task {task!r}; name one of {', '.join(TASKS)}")
    classes, batch, lr, warmup, updates = TASKS[task]
    return ConfigDict({
        "task": {"name": "sentence_prediction", "data": f"data-bin/{task}", "num_classes": classes,
                 "regression_target": task == "STS-B", "init_token": 0, "separator_token": 2,
                 "max_positions": 512},
        "model": {"arch": "roberta_base", "dropout": 0.1, "attention_dropout": 0.1,
                  "pooler_dropout": 0.0},
        "loss": {"name": "sentence_prediction", **dict.fromkeys(REPORTS.get(task, ()), True)},
        "train": {"lr": lr, "max_update": updates, "max_epoch": 10, "clip_norm": 0.0},
        "optimizer": {"name": "adam", "adam_betas": (0.9, 0.98), "adam_eps": 1e-6,
                      "weight_decay": 0.1},
        "schedule": {"name": "polynomial_decay", "warmup_updates": warmup,
                     "total_num_update": updates},
        "batching": {"mode": "bucketed", "max_sentences": batch, "max_tokens": 4400,
                     "required_batch_size_multiple": 1},
        "valid": {"metric": METRICS.get(task, "accuracy")},
        "checkpoint": {"keep_last": 1},
    })
