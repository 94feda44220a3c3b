"""Reading a `.pt`: speed and peak memory against `torch.load` of the same file."""

from __future__ import annotations

import pathlib
import tempfile

from benchmarks import harness
from benchmarks.harness import Options, Row
from benchmarks.sizes import SIZES, random_weights

TITLE = "Reading fairseq's checkpoints"
MIB = 2**20
SIDES = {"seqjax": "benchmarks.load_seqjax:Load", "torch.load": "benchmarks.load_torch:Load"}


def write(path: pathlib.Path, size: str) -> int:
    """A checkpoint of a transformer of this size, as fairseq would write it; its bytes."""
    import argparse
    import collections

    from seqjax.interop.torch.writer import write_pt

    shape = SIZES[size]
    args = {
        "arch": "transformer", "task": "translation", "source_lang": "a", "target_lang": "b",
        "criterion": "cross_entropy", "encoder_embed_dim": shape.dim,
        "encoder_ffn_embed_dim": shape.ffn, "encoder_layers": shape.encoder_layers,
        "encoder_attention_heads": shape.heads, "decoder_layers": shape.decoder_layers,
        "decoder_attention_heads": shape.heads, "share_all_embeddings": True,
        "share_decoder_input_output_embed": True,
    }
    state = random_weights(shape)
    for name in ("decoder.embed_tokens.weight", "decoder.output_projection.weight"):
        state[name] = state["encoder.embed_tokens.weight"]  # one tensor, stored once
    write_pt(path, {"args": argparse.Namespace(**args), "model": collections.OrderedDict(state)})
    return path.stat().st_size


def run(options: Options) -> list[Row]:
    """`tensors`: every tensor in memory of its own. `parameters`: ready to compute with,
    which for us includes checking, stacking layers and transposing; torch's part of that,
    building the module, is not counted against it."""
    size = "micro" if options.quick else "big"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.pt"
        written = write(path, size)
        what = f"{size}, {written / MIB:,.0f} MiB"
        for method in ("tensors", "parameters"):
            peaks = {}
            for name, side in SIDES.items():
                with harness.workers(options, one=(side, {})) as sides:
                    sides["one"].call(method, path=str(path))
                    peaks[name] = sides["one"].call("peak").result["peak"] / MIB
            with harness.workers(options, ours=(SIDES["seqjax"], {}),
                                 theirs=(SIDES["torch.load"], {})) as sides:
                samples = harness.take_turns(
                    sides, method, rounds=options.rounds + 1, args=[{"path": str(path)}])
            rows.append(harness.compare(
                Row(id="L1", workload=f"{what}: {method}", metric="MiB/s", ours=0.0,
                    opponent="torch.load"),
                samples["ours"][1:], samples["theirs"][1:]))
            rows.append(Row(
                id="L2", workload=f"{what}: {method}, peak of the process", metric="MiB",
                ours=peaks["seqjax"], opponent="torch.load", theirs=peaks["torch.load"],
                ratio=peaks["seqjax"] / peaks["torch.load"]))
    return rows
