#!/usr/bin/env bash
# A conformer with a decoder, from nothing, on 78 minutes of one Russian speaker who reads a novel:
# first on whole utterances, of which the encoder learns letters, then on phrases between pauses, of
# which the decoder learns where to look.
#   scripts/real_runs/speech_to_text.sh            # RUN=runs/speech_to_text, OUT=docs/runs
# Run again, it goes on. apt-get fetches the recordings (festvox-ru, 179 MB).
. "$(dirname "$0")/speech.sh"
RUN=${RUN:-runs/speech_to_text}

unpacked festvox-ru
recognise() {  # name of the run, what scripts/real_runs/audio.py is asked for, flags of training
  local data="$RUN/$1-data"
  [ -e "$data/texts" ] || "$PYTHON" scripts/real_runs/audio.py "$2" "$data" "$SOUNDS"
  tables "$data" valid,test --vocab-type char
  baseline "$RUN/same words, $1.baseline.json" same-words "$data/data/train.wrd" \
    "$data/data/test.wrd"
  run seqjax.train --config configs/small/speech_to_text.py --workdir "$RUN/$1" \
    --config.task.data="$data/data" "${@:3}"
  tested "$RUN/$1" "$data/data" beam5 test --beam 5
}
recognise novel festvox --config.train.max_update=1500
# Phrases between pauses, of the same utterances of each split, with the weights of the first run.
recognise phrases phrases --config.init_from="$RUN/novel"
"$PYTHON" scripts/real_runs/collect.py "$RUN" "$OUT/speech_to_text.json"
