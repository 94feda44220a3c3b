"""Writes the table of fairseq's flags into docs/from-fairseq.md, between its two marks."""

from __future__ import annotations

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from seqjax.interop.fairseq import flags as fairseq_flags  # noqa: E402

BEGIN, END = "<!-- flags: made by scripts/update_flag_table.py -->", "<!-- end of flags -->"


def main() -> None:
    file = ROOT / "docs" / "from-fairseq.md"
    before, rest = file.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    file.write_text(f"{before}{BEGIN}\n\n{fairseq_flags.markdown()}\n{END}{after}",
                    encoding="utf-8")


if __name__ == "__main__":
    main()
