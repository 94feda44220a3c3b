#!/usr/bin/env bash
# Translation of speech, from nothing: what a telephone exchange says in Spanish, French, Italian
# and Russian (59 minutes of training), to English.
#   scripts/real_runs/speech_translation.sh        # RUN=runs/speech_translation, OUT=docs/runs
# Run again, it goes on. apt-get fetches the recordings (asterisk-core-sounds-*, 80 MB).
. "$(dirname "$0")/speech.sh"
RUN=${RUN:-runs/speech_translation}

unpacked asterisk-core-sounds-en asterisk-core-sounds-{es,fr,it,ru}{,-wav}
[ -e "$RUN/texts" ] || "$PYTHON" scripts/real_runs/audio.py asterisk "$RUN" "$SOUNDS"
tables "$RUN" valid,seen,new --vocab-type unigram --vocab-size 400
run seqjax.train --config configs/small/speech_translation.py --workdir "$RUN/conformer" \
  --config.task.data="$RUN/data"
for split in seen new; do
  baseline "$RUN/same translation, $split.baseline.json" same-translation \
    "$RUN/data/train.wrd" "$RUN/data/$split.wrd"
  METRICS="sacrebleu chrf" tested "$RUN/conformer" "$RUN/data" beam5 "$split" --beam 5
done
"$PYTHON" scripts/real_runs/collect.py "$RUN" "$OUT/speech_translation.json"
