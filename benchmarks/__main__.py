"""`python -m benchmarks NAME [NAME ...]`: measures; `python -m benchmarks table`: writes
docs/performance.md from the results."""

from __future__ import annotations

import argparse
import importlib
import sys

from benchmarks import harness

BENCHMARKS = {
    "c1": ("benchmarks.c1_train", "training speed"),
    "c3": ("benchmarks.c3_wav2vec2", "wav2vec 2.0 in pretraining, and its convolutions"),
    "c5": ("benchmarks.c5_decode", "beam search, transformer-base, forced length"),
    "c8": ("benchmarks.c8_translate", "translating 2,000 sentences end to end"),
    "c9": ("benchmarks.c9_latency", "latency of one sentence"),
    "c10": ("benchmarks.c10", "data pipeline"),
    "c11": ("benchmarks.c11_features", "features of speech"),
    "c12": ("benchmarks.c12_startup", "start to first update, cold and warm cache"),
    "c13": ("benchmarks.c13_shapes", "compiled shapes per epoch"),
    "c14": ("benchmarks.c14_memory", "memory of decoding"),
    "c15": ("benchmarks.c15_vocabulary", "training with a large vocabulary"),
    "c16": ("benchmarks.c16_huggingface", "a BART over Hugging Face transformers"),
    "c17": ("benchmarks.c17_transcription", "transcription over Hugging Face transformers"),
    "load": ("benchmarks.load_pt", "reading fairseq's checkpoints"),
    "g1": ("benchmarks.g1_train", "training speed on a GPU"),
    "g7": ("benchmarks.g7_decode", "beam search on a GPU"),
}
CPU = [name for name in BENCHMARKS if name.startswith("c")]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"  {name:5} {what}" for name, (_, what) in BENCHMARKS.items()),
    )
    parser.add_argument("names", nargs="+", metavar="NAME",
                        help="a benchmark, `all` (those for a CPU), or `table`")
    parser.add_argument("--quick", action="store_true",
                        help="small sizes: shows that it runs, measures nothing")
    parser.add_argument("--tiny", action="store_true",
                        help="GPU benchmarks in sizes that a CPU can run")
    parser.add_argument("--pairs", type=int, default=5, help="rounds of each side")
    parser.add_argument("--cores", type=int, default=1, help="cores that sides are pinned to")
    args = parser.parse_args(argv)
    options = harness.Options(
        quick=args.quick, tiny=args.tiny, pairs=args.pairs, cores=args.cores
    )
    names = [n for name in args.names for n in (CPU if name == "all" else [name])]
    unknown = sorted(set(names) - set(BENCHMARKS) - {"table"})
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}. Known: {', '.join(BENCHMARKS)}, all, table")
    for name in names:
        try:
            _run(name, options)
        except harness.BenchmarkError as error:
            print(f"error: {name}: {error}", file=sys.stderr)
            return 2
    return 0


def _run(name: str, options: harness.Options) -> None:
    if name == "table":
        from benchmarks import table

        print(f"wrote {table.write()}")
        return
    module = importlib.import_module(BENCHMARKS[name][0])
    print(f"{name}: {BENCHMARKS[name][1]}", flush=True)
    before = harness.environment()
    rows = module.run(options)
    for row in rows:
        print("  " + harness.show(row), flush=True)
    device = module.device() if hasattr(module, "device") else "cpu"
    path = harness.save(name, rows, device=device, options=options, before=before)
    print(f"  wrote {path.relative_to(harness.ROOT)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
