"""Records what fairseq-score says of lines that are empty or hold special symbols.

Needs fairseq (main branch of 2025) and torch; seqjax and its tests need neither. Writes
`FOLDER/bleu/lines.json`:

    python scripts/record_bleu.py tests/goldens

A case has the lines `sys` and `ref`, the flags `order` and `ignore_case`, the `line` that
fairseq prints of them, and `sentences`: its scorer's line of each pair by itself, smoothed (its
command line stops with an error there).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import pathlib
import random
import sys
import tempfile
from typing import Any

from fairseq.data.dictionary import Dictionary
from fairseq.scoring import bleu
from fairseq_cli import score

WORDS = ("a", "b", "c", "A", "B", "d", "<unk>", "<pad>", "</s>", "<s>")


def printed(hypotheses: list[str], references: list[str], flags: list[str]) -> str:
    """fairseq-score's last line."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(pathlib.Path(folder) / name) for name in ("sys", "ref")]
        for path, lines in zip(paths, (hypotheses, references), strict=True):
            pathlib.Path(path).write_text("".join(line + "\n" for line in lines))
        sys.argv = ["fairseq-score", "--sys", paths[0], "--ref", paths[1], *flags]
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            score.cli_main()
    return out.getvalue().splitlines()[-1]


def smoothed(hypothesis: str, reference: str, *, order: int, ignore_case: bool) -> str:
    """The line of one sentence."""
    vocabulary = Dictionary()
    scorer = bleu.Scorer(bleu.BleuConfig(
        pad=vocabulary.pad(), eos=vocabulary.eos(), unk=vocabulary.unk()))
    scorer.reset(one_init=True)
    sides = [s.lower() if ignore_case else s for s in (hypothesis, reference)]
    ids = [vocabulary.encode_line(s) for s in sides]
    scorer.add(ids[1], ids[0])
    return scorer.result_string(order)


def cases() -> list[tuple[list[str], list[str], int, bool]]:
    by_hand = [
        (["a b c d a", "", "b c"], ["a b c d a", "", "b c d"], 4, False),
        (["a b c d", ""], ["a b c d", "a b"], 4, False),
        (["a b c d", "a b"], ["a b c d", ""], 4, False),
        ([""], [""], 4, False),
        (["a b c d", " ", "\t", "\u00a0"], ["a b c d", "", " \t ", ""], 4, False),
        (["a b c d <pad>", "<pad> a b", "</s>", "a </s>"], ["a b c d", "a b", "", "a"], 4, False),
        (["<unk> b c d e", "<unk>"], ["<unk> b c d e", "<unk>"], 4, False),
        (["A b C d", ""], ["a B c D", ""], 2, True),
    ]
    r = random.Random(1)
    some = lambda: " ".join(r.choice(WORDS) for _ in range(r.randrange(9)))  # noqa: E731
    for number in range(4):
        references = [some() for _ in range(12)]
        hypotheses = [x if r.random() < 0.5 else some() for x in references]
        by_hand.append((hypotheses, references, (4, 3, 2, 1)[number], number % 2 == 1))
    return by_hand


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder
    found: list[dict[str, Any]] = []
    for hypotheses, references, order, ignore_case in cases():
        flags = ["--order", str(order), *(["--ignore-case"] if ignore_case else [])]
        pairs = zip(hypotheses, references, strict=True)
        found.append({
            "sys": hypotheses, "ref": references, "order": order, "ignore_case": ignore_case,
            "line": printed(hypotheses, references, flags),
            "sentences": [smoothed(h, x, order=order, ignore_case=ignore_case) for h, x in pairs]})
    (folder / "bleu" / "lines.json").write_text(json.dumps(found, indent=0) + "\n")


if __name__ == "__main__":
    main()
