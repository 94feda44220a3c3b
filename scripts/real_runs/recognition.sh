#!/usr/bin/env bash
# A recogniser from nothing: wav2vec_ctc on 78 minutes of one Russian speaker, greedy and with
# n-grams of letters and of words.
#   scripts/real_runs/recognition.sh               # RUN=runs/recognition, OUT=docs/runs
# Run again, it goes on. apt-get fetches the recordings (festvox-ru, 179 MB).
. "$(dirname "$0")/speech.sh"
RUN=${RUN:-runs/recognition}

unpacked festvox-ru
[ -e "$RUN/texts" ] || "$PYTHON" scripts/real_runs/audio.py festvox "$RUN" "$SOUNDS"
manifests "$RUN"
[ -e "$RUN/letters.arpa" ] || run seqjax.preprocess ngram "$RUN/data/train.ltr" --order 6 \
  --dest "$RUN/letters.arpa"
[ -e "$RUN/words.arpa" ] || run seqjax.preprocess ngram "$RUN/data/train.wrd" --order 3 \
  --dest "$RUN/words.arpa"
baseline "$RUN/same words.baseline.json" same-words "$RUN/data/train.wrd" "$RUN/data/test.wrd"
run seqjax.train --config configs/small/recognition.py --workdir "$RUN/ctc" \
  --config.task.data="$RUN/data"
tested "$RUN/ctc" "$RUN/data" greedy test
# How much a model counts in the search is chosen by the validation split.
for lm in letters words; do
  units=$([ $lm = letters ] && echo --unit-lm || true)
  [ -s "$RUN/$lm.flags" ] || "$PYTHON" scripts/real_runs/search_weights.py "$RUN/ctc" \
    "$RUN/data" valid "$RUN/$lm.arpa" $units > "$RUN/$lm.flags"
  # shellcheck disable=SC2046
  tested "$RUN/ctc" "$RUN/data" "beam-$lm" test --beam 50 --lm-path "$RUN/$lm.arpa" $units \
    $(cat "$RUN/$lm.flags")
done
tested "$RUN/ctc" "$RUN/data" beam test --beam 50
"$PYTHON" scripts/real_runs/collect.py "$RUN" "$OUT/recognition.json"
