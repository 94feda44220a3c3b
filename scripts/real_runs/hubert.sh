#!/usr/bin/env bash
# HuBERT's whole recipe in miniature: clusters of MFCCs, pretraining, clusters of a layer's states,
# pretraining again, fine-tuning with 20 minutes of transcripts; against the same from nothing.
#   scripts/real_runs/hubert.sh                    # RUN=runs/hubert, OUT=docs/runs
# Run again, it goes on. apt-get fetches the recordings (festvox-ru, 179 MB).
. "$(dirname "$0")/speech.sh"
RUN=${RUN:-runs/hubert}

unpacked festvox-ru
[ -e "$RUN/texts" ] || "$PYTHON" scripts/real_runs/audio.py festvox "$RUN" "$SOUNDS"
manifests "$RUN"

clusters() {  # folder of features, kind of the labels, number of clusters, flags of features
  [ ! -e "$RUN/data/dict.$2.txt" ] || return 0
  for split in train valid; do
    run seqjax.preprocess features "$RUN/data/$split.tsv" --dest "$RUN/$1" "${@:4}"
  done
  [ -e "$RUN/$1/km.npy" ] || run seqjax.preprocess kmeans "$RUN/$1" --split train \
    --clusters "$3" --n-init 5 --dest "$RUN/$1/km.npy"
  for split in valid train; do
    run seqjax.preprocess labels "$RUN/$1" --split $split --kmeans "$RUN/$1/km.npy" \
      --dest "$RUN/data" --kind "$2"
  done
}
clusters mfcc km 50
run seqjax.train --config configs/small/hubert.py --workdir "$RUN/first" \
  --config.task.data="$RUN/data" --config.task.labels=km
clusters layer2 km2 100 --checkpoint "$RUN/first" --layer 2
# Its frames are 512 samples apart. In so few updates more is learnt if frames that are not masked
# count as well.
run seqjax.train --config configs/small/hubert.py --workdir "$RUN/second" \
  --config.task.data="$RUN/data" --config.task.labels=km2 --config.task.label_rate=31.25 \
  --config.train.max_update=400 --config.loss.pred_nomask_weight=0.5

# Every fourth transcript of the training split, 20 minutes.
if [ ! -e "$RUN/few/train.tsv" ]; then
  mkdir -p "$RUN/few"
  cp "$RUN"/data/dict.ltr.txt "$RUN"/data/{valid,test}.{tsv,ltr,wrd} "$RUN/few/"
  for kind in ltr wrd; do awk 'NR % 4 == 1' "$RUN/data/train.$kind" > "$RUN/few/train.$kind"; done
  awk 'NR == 1 || NR % 4 == 2' "$RUN/data/train.tsv" > "$RUN/few/train.tsv"
fi
baseline "$RUN/same words.baseline.json" same-words "$RUN/few/train.wrd" "$RUN/few/test.wrd"
recognise() {  # name of the run, flags
  run seqjax.train --config configs/small/recognition.py --workdir "$RUN/$1" \
    --config.task.data="$RUN/few" --config.train.max_update=400 \
    --config.valid.every_updates=200 --config.batching.num_shapes=2 "${@:2}"
  tested "$RUN/$1" "$RUN/few" greedy test
}
pretrained=(--config.model.name=hubert_ctc --config.model.w2v_path="$RUN/second")
recognise pretrained "${pretrained[@]}"
recognise pretrained-5e-4 "${pretrained[@]}" --config.train.lr=5e-4
recognise nothing --config.model.name=hubert_ctc
"$PYTHON" scripts/real_runs/collect.py "$RUN" "$OUT/hubert.json"
