"""How much an n-gram model should count in a recogniser's search: what is best on one split.

    python scripts/real_runs/search_weights.py CHECKPOINT DATA valid letters.arpa --unit-lm
    python scripts/real_runs/search_weights.py CHECKPOINT DATA valid words.arpa

Recordings are encoded once and searched with every setting (beam 25). Word error rates in percent
go to stderr, and the flags of `seqjax.generate` with the fewest errors to stdout.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys

import jiwer

import seqjax
from seqjax.data.audio.manifests import AudioManifest
from seqjax.generation.ctc.decoder import CTCDecoder
from seqjax.generation.ctc.options import CTCOptions

LETTERS = [{"lm_weight": weight, "word_score": 0.0, "sil_weight": score}
           for weight in (1.5, 2.0) for score in (0.0, 1.0, 2.0)]
WORDS = [{"lm_weight": weight, "word_score": score, "unk_weight": -3.0}
         for weight in (0.5, 1.0) for score in (0.0, 2.0)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for name in ("checkpoint", "data", "subset", "lm"):
        parser.add_argument(name)
    parser.add_argument("--unit-lm", action="store_true", help="of letters, not of words")
    args = parser.parse_args()
    folder = pathlib.Path(args.data)
    manifest = AudioManifest.read(str(folder / f"{args.subset}.tsv"))
    references = (folder / f"{args.subset}.wrd").read_text(encoding="utf-8").splitlines()
    model = seqjax.load(args.checkpoint)
    rows = model.log_probs([manifest.file(i) for i in range(len(manifest))])
    vocabulary = model.task.vocab
    silence = vocabulary.index("|")
    options = CTCOptions(beam=25, lm=args.lm, unit_lm=args.unit_lm)
    tried = {}
    for flags in LETTERS if args.unit_lm else WORDS:
        decoder = CTCDecoder(vocabulary.symbols, blank=0, silence=silence,
                             options=dataclasses.replace(options, **flags))
        said = [model.task.decode_target(found[0].tokens) for found in decoder.decode(rows)]
        tried[tuple(flags.items())] = errors = 100 * jiwer.wer(references, said)
        print(f"{flags}: {errors:.2f}", file=sys.stderr)
    best = min(tried, key=tried.__getitem__)
    print(" ".join(f"--{name.replace('_', '-')}={value}" for name, value in best))


if __name__ == "__main__":
    main()
