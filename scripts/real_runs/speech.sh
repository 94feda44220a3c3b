# What the small runs of speech share; they source it. Debian packages are fetched by apt-get and
# unpacked, nothing is installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PYTHON=${PYTHON:-python3} OUT=${OUT:-docs/runs} SOUNDS=${SOUNDS:-runs/sounds}
export PYTHONPATH=${PYTHONPATH:-.}
run() { printf '$ python -m %s\n' "$*"; "$PYTHON" -m "$@"; }

unpacked() {  # names of packages
  mkdir -p "$SOUNDS"
  for package in "$@"; do
    [ ! -e "$SOUNDS/$package.done" ] || continue
    (cd "$SOUNDS" && apt-get download -q "$package")
    dpkg-deb -x "$SOUNDS/$package"_*.deb "$SOUNDS"
    touch "$SOUNDS/$package.done"
  done
}

manifests() {  # folder with clips/SPLIT and texts, flags of preprocess audio
  [ ! -e "$1/data/test.wrd" ] || return 0
  for split in train valid test; do
    run seqjax.preprocess audio "$1/clips/$split" --ext wav --dest "$1/lists/$split" \
      --valid-percent 0 --transcripts "$1/texts" --case lower --no-punctuation "${@:2}"
  done
  mkdir -p "$1/data"
  cp "$1"/lists/train/* "$1/data/"
  for split in valid test; do  # lists of their own, the training split's dictionary
    for kind in tsv ltr wrd; do cp "$1/lists/$split/train.$kind" "$1/data/$split.$kind"; done
  done
}

tables() {  # folder with clips/SPLIT and texts, splits but train with commas, flags of preprocess
  [ ! -e "$1/data/config.yaml" ] || return 0
  local pieces=("${@:3}")
  for split in train ${2//,/ }; do
    run seqjax.preprocess audio "$1/clips/$split" --ext wav --dest "$1/lists/$split" \
      --valid-percent 0 --transcripts "$1/texts" --case lower --no-punctuation --s2t "${pieces[@]}"
    pieces=(--vocab-type char)  # of the others only the table counts
  done
  mkdir -p "$1/data"
  for split in train ${2//,/ }; do  # names of recordings begin with their split
    sed "2,\$s#\t#\t$split/#" "$1/lists/$split/train.tsv" > "$1/data/$split.tsv"
    tail -n +2 "$1/data/$split.tsv" | cut -f 4 > "$1/data/$split.wrd"
  done
  cp "$1/lists/train/dict.txt" "$1/data/"
  [ ! -e "$1/lists/train/spm.model" ] || cp "$1/lists/train/spm.model" "$1/data/"
  sed 's#clips/train$#clips#' "$1/lists/train/config.yaml" > "$1/data/config.yaml"
}

tested() {  # run, data, name of the test, subset, flags of generate
  local hypotheses="$1/$4.$3.hyp"
  [ -e "$hypotheses" ] || run seqjax.generate --checkpoint "$1" --data "$2" --subset "$4" \
    --output "$hypotheses" "${@:5}"
  run seqjax.score --sys "$hypotheses" --ref "$2/$4.wrd" --metric ${METRICS:-wer cer} --json \
    | tee "$1/$4.$3.json"
}

baseline() {  # file, and what scripts/real_runs/baselines.py is asked for
  [ -e "$1" ] || { "$PYTHON" scripts/real_runs/baselines.py "${@:2}" > "$1.part" &&
    mv "$1.part" "$1"; }
}
