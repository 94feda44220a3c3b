#!/usr/bin/env bash
# English to German from raw text to BLEU, each step as a user would type it (`make demo`).
# WORKDIR=runs/demo by default; started again after an interruption, it goes on. Arguments go to
# seqjax.train. It ends with an error if BLEU is below FLOOR (25; 0 for experiments of your own):
# the number of updates decides, not the clock, so a slow machine gets there too, only later.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
RUN=${WORKDIR:-runs/demo}
FLOOR=${FLOOR:-25}

say() { printf '\n== %s\n' "$*"; }
run() { printf '$ python -m %s\n' "$*"; "$PYTHON" -m "$@"; }

begun=$SECONDS
say "1. Text: the embedded corpus as plain files"
"$PYTHON" launch/split_quickstart.py "$RUN/text"

if [ ! -e "$RUN/data/preprocess.json" ]; then
  say "2. Preprocess: train a SentencePiece model, make a data folder"
  run seqjax.preprocess --source-lang en --target-lang de \
    --trainpref "$RUN/text/train" --validpref "$RUN/text/valid" --testpref "$RUN/text/test" \
    --tokenizer sentencepiece --vocab-size 2000 --joined-dictionary --destdir "$RUN/data"
fi

say "3. Train"
trained=$SECONDS
run seqjax.train --config configs/quickstart.py --workdir "$RUN" \
  --config.task.data="$RUN/data" "$@"
trained=$((SECONDS - trained))

say "4. Translate 300 sentences that training never saw"
"$PYTHON" launch/which_checkpoint.py "$RUN"
run seqjax.generate --checkpoint "$RUN" --input "$RUN/text/test.en" --output "$RUN/test.hyp.de"

say "5. Source, translation and reference"
"$PYTHON" launch/side_by_side.py "$RUN/text/test.en" "$RUN/test.hyp.de" "$RUN/text/test.de"

say "6. Score"
run seqjax.score --sys "$RUN/test.hyp.de" --ref "$RUN/text/test.de" --metric sacrebleu chrf
"$PYTHON" launch/at_least.py "$FLOOR" "$RUN/test.hyp.de" "$RUN/text/test.de"
printf '\nTrained for %d s, %d s in all. Try it:\n' "$trained" "$((SECONDS - begun))"
printf '  echo "Living room temperature" | %s -m seqjax.interactive --checkpoint %s\n' \
  "$PYTHON" "$RUN"
