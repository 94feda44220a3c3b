#!/usr/bin/env bash
# BART in miniature: denoising, then translating with 1,500 pairs, and the same from nothing.
#   scripts/real_runs/denoising.sh [SEED ...]      # RUN=runs/denoising, OUT=docs/runs, seeds 1 2 3
# Run again, it goes on. The corpus is the one that the project embeds.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3} RUN=${RUN:-runs/denoising} OUT=${OUT:-docs/runs}
[ $# -gt 0 ] || set -- 1 2 3
run() { printf '$ python -m %s\n' "$*"; "$PYTHON" -m "$@"; }
made() { [ -e "$1" ] || run seqjax.preprocess "${@:2}" --destdir "${1%/*}"; }
export PYTHONPATH=${PYTHONPATH:-.}

"$PYTHON" scripts/real_runs/text.py denoising "$RUN/text"
made "$RUN/mono/preprocess.json" --only-source --trainpref "$RUN/text/mono.train" \
  --validpref "$RUN/text/mono.valid" --tokenizer sentencepiece --vocab-size 2000
made "$RUN/pairs/preprocess.json" -s en -t de --trainpref "$RUN/text/pairs.train" \
  --validpref "$RUN/text/pairs.valid" --testpref "$RUN/text/pairs.test" --joined-dictionary \
  --tokenizer "sentencepiece:$RUN/mono/sentencepiece.model" --srcdict "$RUN/mono/dict.txt"
run seqjax.train --config configs/small/denoising.py --workdir "$RUN/bart" \
  --config.task.data="$RUN/mono"

# From nothing twice: with the rate of fine-tuning, and with that of pretraining.
translate() {
  run seqjax.train --config configs/small/translation.py --workdir "$RUN/$1" \
    --config.task.data="$RUN/pairs" "${@:2}"
  [ -e "$RUN/$1/test.hyp" ] || run seqjax.generate --checkpoint "$RUN/$1" \
    --input "$RUN/text/pairs.test.en" --output "$RUN/$1/test.hyp"
  run seqjax.score --sys "$RUN/$1/test.hyp" --ref "$RUN/text/pairs.test.de" \
    --metric sacrebleu chrf --json | tee "$RUN/$1/test.json"
}
for seed in "$@"; do
  translate "pretrained.$seed" --config.seed="$seed" --config.init_from="$RUN/bart"
  translate "nothing.$seed" --config.seed="$seed"
  translate "nothing-1e-3.$seed" --config.seed="$seed" --config.train.lr=1e-3
done
"$PYTHON" scripts/real_runs/collect.py "$RUN" "$OUT/denoising.json"
