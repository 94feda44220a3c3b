"""Writes the table of fairseq's flags into docs/from-fairseq.md, between its two marks."""

from __future__ import annotations

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from seqjax.interop.fairseq import flags as fairseq_flags  # noqa: E402

BEGIN, END = "<!-- flags: made by scripts/update_flag_table.py -->", "<!-- end of flags -->"


def markdown() -> str:
    """The table of docs/from-fairseq.md."""
    groups: dict[str, list[fairseq_flags.Flag]] = {"Training": [], "Preprocessing": [],
                                     "Generation and evaluation": []}
    for flag in fairseq_flags.table():
        only = flag.commands if flag.commands else "T"
        group = ("Training" if "T" in only else
                 "Preprocessing" if only == "P" else "Generation and evaluation")
        groups[group].append(flag)
    lines: list[str] = []
    for title, flags in groups.items():
        lines += [f"### {title}", "", "| fairseq | seqjax | |", "| --- | --- | --- |"]
        lines += [_row(flag) for flag in flags]
        lines.append("")
    return "\n".join(lines)


def _row(flag: fairseq_flags.Flag) -> str:
    names = ", ".join(f"`{name}`" for name in flag.names)
    here = {"(no)": "not supported, because", "(not needed)": "not needed",
            "(implied)": "implied"}.get(flag.key, f"`{flag.key}`")
    return f"| {names} | {here} | {flag.note} |"


def main() -> None:
    file = ROOT / "docs" / "from-fairseq.md"
    before, rest = file.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    file.write_text(f"{before}{BEGIN}\n\n{markdown()}\n{END}{after}",
                    encoding="utf-8")


if __name__ == "__main__":
    main()
