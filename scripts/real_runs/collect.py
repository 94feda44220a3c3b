"""From the work folders of a small run to its curves and results as one small JSON file.

    python scripts/real_runs/collect.py RUN OUT.json

Of every work folder in RUN: the curves in its metrics.jsonl (update, loss of training and what
validations measured), seed, rate, updates, where its weights began, seconds of training without
compilation, its test.json, and what is behind SPLIT.HOW.json and SPLIT.HOW.hyp: how well, and what,
it said of a split when it searched so. Of RUN itself: what lies there as NAME.baseline.json.
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

MEASURED = ("loss", "nll_loss", "ppl", "accuracy", "bleu", "uer", "wer", "ctc_loss",
            "correct_m_0")
SHOWN = 3


def short(value: Any) -> Any:
    """A number with four digits behind the point."""
    return round(value, 4) if isinstance(value, float) else value


def curves(file: pathlib.Path) -> dict[str, Any]:
    """What a run measured, by its updates; of what was done twice the last."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    inner = {int(row["num_updates"]): row for row in rows if row["group"] == "train_inner"}
    valid = {int(row["num_updates"]): row for row in rows if row["group"] == "valid"}
    names = [n for n in MEASURED if valid and n in next(iter(valid.values()))]
    return {
        "train": {"update": list(inner), "loss": [short(r["loss"]) for r in inner.values()]},
        "valid": {"update": list(valid),
                  **{n: [short(r[n]) for r in valid.values()] for n in names}},
        "seconds": round(sum(row["train_wall"] for row in inner.values())),
    }


def run_of(folder: pathlib.Path) -> dict[str, Any]:
    """One work folder."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    start = config["init_from"]
    found = {"seed": config["seed"], "lr": config["train"]["lr"],
             "max_update": config["train"]["max_update"],
             "init_from": start and pathlib.Path(start).name,
             **curves(folder / "metrics.jsonl")}
    for file in sorted(folder.glob("*.json")):
        name = file.name.removesuffix(".json").replace(".", " ")
        if name == "test" or file.with_suffix(".hyp").exists():
            text = file.read_text(encoding="utf-8")
            start_of_json = text.index("{")  # behind the command, which stands there too
            found[name] = json.loads(text[start_of_json:])
        if name != "test" and file.with_suffix(".hyp").exists():
            said = file.with_suffix(".hyp").read_text(encoding="utf-8").splitlines()
            found[name]["first outputs"] = said[:SHOWN]
    return found


def table(runs: dict[str, Any]) -> list[str]:
    """Markdown: of each run its last validation and its test."""
    lines = ["| run | from | rate | updates | s | last validation | test |", "| --- " * 7 + "|"]
    for name, run in runs.items():
        valid = {k: v[-1] for k, v in run["valid"].items() if v and k != "update"}
        tests = {k: said(v) for k, v in run.items() if k.startswith(("test", "seen", "new"))}
        cells = [name, run["init_from"] or "nothing", *run["lr"], run["max_update"],
                 run["seconds"], said(valid), "; ".join(f"{k}: {v}" for k, v in tests.items())]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return lines


def said(values: dict[str, Any]) -> str:
    """Numbers by name, in one line."""
    numbers = {k: v["score"] if isinstance(v, dict) else v for k, v in values.items()}
    return ", ".join(f"{name} {value:.4g}" for name, value in numbers.items()
                     if isinstance(value, (int, float)))


def main() -> None:
    folder, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    found: dict[str, Any] = {
        "runs": {file.parent.name: run_of(file.parent)
                 for file in sorted(folder.glob("*/config.json"))},
        "baselines": {file.name.removesuffix(".baseline.json"): json.loads(
            file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.baseline.json"))},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print("\n".join([*table(found["runs"]), ""]))
    for name, values in found["baselines"].items():
        print(f"{name}: {json.dumps(values, ensure_ascii=False)}")


if __name__ == "__main__":
    main()
