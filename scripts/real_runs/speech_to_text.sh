#!/usr/bin/env bash
# A conformer with a decoder, from nothing, on 78 minutes of one Russian speaker.
#   scripts/real_runs/speech_to_text.sh            # RUN=runs/speech_to_text, OUT=docs/runs
# Run again, it goes on. apt-get fetches the recordings (festvox-ru, 179 MB).
. "$(dirname "$0")/speech.sh"
RUN=${RUN:-runs/speech_to_text}

unpacked festvox-ru
[ -e "$RUN/texts" ] || "$PYTHON" scripts/real_runs/audio.py festvox "$RUN" "$SOUNDS"
tables "$RUN" valid,test --vocab-type char
baseline "$RUN/same words.baseline.json" same-words "$RUN/data/train.wrd" "$RUN/data/test.wrd"
run seqjax.train --config configs/small/speech_to_text.py --workdir "$RUN/conformer" \
  --config.task.data="$RUN/data"
tested "$RUN/conformer" "$RUN/data" beam5 test --beam 5
"$PYTHON" scripts/real_runs/collect.py "$RUN" "$OUT/speech_to_text.json"
