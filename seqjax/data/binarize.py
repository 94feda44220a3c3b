"""Text files -> counted words, tokenized text and token stores, with one or many processes.

A file is cut into spans of whole lines; each span makes a part, parts are put together in
order, so the result does not depend on the number of processes, and no process ever holds
more than a span's share of anything. Paths come from the caller (`prepare`).
"""

from __future__ import annotations

import array
import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np

from seqjax.data import indexed, sources
from seqjax.data.tokenizers import Tokenizer
from seqjax.data.vocabulary import EOS, Vocabulary

SPAN_BYTES = 32 << 20
_REPORT_SECONDS = 5.0

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """What became of a text."""

    sentences: int = 0
    tokens: int = 0
    """`</s>` included."""
    unknown: int = 0
    """Tokens that are not in the vocabulary."""

    def __add__(self, other: Summary) -> Summary:
        return Summary(
            sentences=self.sentences + other.sentences,
            tokens=self.tokens + other.tokens,
            unknown=self.unknown + other.unknown,
        )


class WorkerError(RuntimeError):
    """A worker process ended without a result."""


class Workers:
    """Runs a function over the spans of a file, results in the order of the file.

    Use it as a context manager.

    Args:
      number: of processes; with 1 everything happens in this one.
      say: takes lines of progress.
      span_bytes: how much text a task takes.
    """

    def __init__(self, number: int, *, say: Say = lambda line: None, span_bytes: int = SPAN_BYTES):
        self.number = number
        self.say = say
        self._span_bytes = span_bytes
        self._pool: concurrent.futures.ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(
        self, function: Callable[..., Any], path: str, *, label: str, unit: str = "tokens"
    ) -> Iterator[Any]:
        """`function(path, span, k)` for span number k of the file.

        The function gives a pair (result, count); `count` of `unit` is for progress only.
        """
        spans = sources.split_spans(path, max_bytes=self._span_bytes, at_least=self.number)
        start = last = time.monotonic()
        done = count = 0
        total = spans[-1].end if spans else 0
        for span, (result, number) in zip(spans, self._run(function, path, spans), strict=True):
            yield result
            done, count, now = span.end, count + number, time.monotonic()
            if now - last > _REPORT_SECONDS and done < total:
                last = now
                left = (now - start) / done * (total - done)
                self.say(f"{label}: {100 * done / total:.0f}%, {_rate(count, now - start)}"
                         f" {unit}/s, {left:.0f} s left")
        self.say(f"{label}: {count:,} {unit}, {_rate(count, time.monotonic() - start)} {unit}/s")

    def _run(self, function: Callable[..., Any], path: str, spans: Sequence[sources.Span]):
        if self.number == 1 or len(spans) == 1:
            yield from (function(path, span, k) for k, span in enumerate(spans))
            return
        if self._pool is None:
            # A fresh interpreter each: a forked one would inherit the locks of libraries'
            # threads.
            context = multiprocessing.get_context("spawn")
            self._pool = concurrent.futures.ProcessPoolExecutor(
                self.number, mp_context=context, initializer=_leave_ctrl_c_to_parent)
        futures = collections.deque(
            self._pool.submit(function, path, span, k) for k, span in enumerate(spans)
        )
        try:
            while futures:
                yield futures.popleft().result()
        except BrokenProcessPool:
            raise WorkerError(
                "a worker process was killed, perhaps for memory: try fewer --workers"
            ) from None
        finally:
            for future in futures:
                future.cancel()


def _leave_ctrl_c_to_parent() -> None:
    # A terminal sends it to all processes; the first one says what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _rate(count: int, seconds: float) -> str:
    rate = count / max(seconds, 1e-9)
    return f"{rate / 1e6:.1f} M" if rate >= 1e6 else f"{rate / 1e3:.1f} k"


def count_words(path: str, *, workers: Workers) -> collections.Counter[str]:
    """Words of a text file, and one `</s>` for each line."""
    total: collections.Counter[str] = collections.Counter()
    for counts in workers.map(_count_span, path, label=f"{os.path.basename(path)}: counting words"):
        total.update(counts)
    return total


def _count_span(path: str, span: sources.Span, _: int) -> tuple[dict[str, int], int]:
    counts: collections.Counter[str] = collections.Counter()
    lines_read = 0
    for lines in sources.read_lines(path, span):
        counts.update("".join(lines).split())
        lines_read += len(lines)
    counts[EOS] += lines_read
    return dict(counts), counts.total()


def build_vocabulary(
    paths: Iterable[str],
    *,
    threshold: int = 0,
    nwords: int = -1,
    padding_factor: int = 8,
    workers: Workers,
) -> Vocabulary:
    """The vocabulary of text files, as fairseq-preprocess makes it."""
    vocabulary = Vocabulary()
    for path in paths:
        vocabulary.add_counts(count_words(path, workers=workers))
    vocabulary.finalize(threshold=threshold, nwords=nwords, padding_factor=padding_factor)
    return vocabulary


class _Lookup(dict[str, int]):
    """Word -> id; counts what is not there."""

    def __init__(self, vocabulary: Vocabulary):
        super().__init__(vocabulary.indices)
        self.unk = vocabulary.unk
        self.unknown = 0

    def __missing__(self, word: str) -> int:
        self.unknown += 1
        return self.unk


def binarize_text(
    path: str, prefix: str, vocabulary: Vocabulary, *, workers: Workers
) -> Summary:
    """Writes the store `prefix` of a text file: a sentence a line, `</s>` at its end."""
    task = functools.partial(_binarize_span, prefix=prefix, vocabulary=vocabulary)
    total = Summary()
    with _parts_of(prefix), indexed.IndexedWriter(
        prefix, dtype=indexed.dtype_for(len(vocabulary))
    ) as writer:
        label = f"{os.path.basename(path)}: writing ids"
        for k, summary in enumerate(workers.map(task, path, label=label)):
            part = _part(prefix, k)
            writer.merge(part)
            for end in ("bin", "idx"):
                os.remove(f"{part}.{end}")
            total += summary
    return total


def _binarize_span(
    path: str, span: sources.Span, k: int, *, prefix: str, vocabulary: Vocabulary
) -> tuple[Summary, int]:
    lookup, eos = _Lookup(vocabulary), vocabulary.eos
    find = lookup.__getitem__
    dtype = indexed.dtype_for(len(vocabulary))
    with indexed.IndexedWriter(_part(prefix, k), dtype=dtype) as writer:
        for lines in sources.read_lines(path, span):
            ids, lengths = array.array("q"), array.array("i")
            for line in lines:
                words = line.split()
                ids.extend(map(find, words))
                ids.append(eos)
                lengths.append(len(words) + 1)
            writer.extend(np.frombuffer(ids, np.int64), np.frombuffer(lengths, np.int32))
        summary = Summary(
            sentences=writer.num_sentences, tokens=writer.num_tokens, unknown=lookup.unknown
        )
    return summary, summary.tokens


def tokenize_text(path: str, output: str, tokenizer: Tokenizer, *, workers: Workers) -> None:
    """Writes a text file with every line tokenized."""
    task = functools.partial(_tokenize_span, output=output, tokenizer=tokenizer)
    with _parts_of(output), open(output, "wb") as file:
        label = f"{os.path.basename(path)}: {tokenizer.kind}"
        for k, _ in enumerate(workers.map(task, path, label=label, unit="sentences")):
            part = _part(output, k)
            with open(part, "rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)
            os.remove(part)


def _tokenize_span(
    path: str, span: sources.Span, k: int, *, output: str, tokenizer: Tokenizer
) -> tuple[None, int]:
    count = 0
    with open(_part(output, k), "w", encoding="utf-8", newline="\n") as file:
        for lines in sources.read_lines(path, span):
            for line in lines:
                # Whatever a tokenizer makes of odd white space, a line stays a line.
                file.write(sources.one_line(tokenizer.encode(line.rstrip("\n"))) + "\n")
            count += len(lines)
    return None, count


def _part(prefix: str, k: int) -> str:
    return f"{prefix}.part{k}"


@contextlib.contextmanager
def _parts_of(prefix: str) -> Iterator[None]:
    """Removes parts that are left after an error."""
    try:
        yield
    finally:
        folder, name = os.path.split(prefix)
        for other in os.listdir(folder or "."):
            if other.startswith(f"{name}.part"):
                os.remove(os.path.join(folder, other))


def binarize_alignments(path: str, prefix: str) -> int:
    """Writes the store of an alignment file (lines of `0-0 1-2`): pairs, flattened.

    Returns:
      The number of lines.

    Raises:
      SourceError: something that is no pair of numbers.
    """
    with indexed.IndexedWriter(prefix, dtype=indexed.dtype_for(None)) as writer:
        for lines in sources.read_lines(path):
            numbers, lengths = array.array("q"), array.array("i")
            for k, line in enumerate(lines, writer.num_sentences + 1):
                pairs = parse_alignment(line, where=f"{path}: line {k}")
                numbers.extend(number for pair in pairs for number in pair)
                lengths.append(2 * len(pairs))
            writer.extend(np.frombuffer(numbers, np.int64), np.frombuffer(lengths, np.int32))
        return writer.num_sentences


def parse_alignment(line: str, *, where: str) -> list[tuple[int, int]]:
    """`0-0 1-2` -> [(0, 0), (1, 2)]."""
    pairs = []
    for pair in line.split():
        source, dash, target = pair.partition("-")
        if not (dash and source.isdecimal() and target.isdecimal()):
            raise sources.SourceError(f"{where}: {pair!r} is no alignment such as 3-5")
        pairs.append((int(source), int(target)))
    return pairs


def alignment_dictionary(
    alignments: str, source: str, target: str, *, vocabularies: tuple[Vocabulary, Vocabulary]
) -> list[tuple[str, str]]:
    """The target word that each source word is aligned with most (fairseq's `--alignfile`).

    Args:
      alignments, source, target: files of as many lines.

    Returns:
      Pairs of words in the order in which source words come first; of equally frequent
      target words the first; unknown words are left out.
    """
    first, second = vocabularies
    counts: dict[str, dict[str, int]] = {}
    lines = zip(*map(_lines, (alignments, source, target)), strict=True)
    for number, (line, source_line, target_line) in enumerate(lines, 1):
        where = f"{alignments}: line {number}"
        source_words, target_words = source_line.split(), target_line.split()
        for i, j in parse_alignment(line, where=where):
            if i >= len(source_words) or j >= len(target_words):
                raise sources.SourceError(
                    f"{where}: {i}-{j}, but the sentences have {len(source_words)} and"
                    f" {len(target_words)} words"
                )
            if first.index(source_words[i]) != first.unk:
                if second.index(target_words[j]) != second.unk:
                    found = counts.setdefault(source_words[i], {})
                    found[target_words[j]] = found.get(target_words[j], 0) + 1
    return [(word, max(found, key=found.__getitem__)) for word, found in counts.items()]


def _lines(path: str) -> Iterator[str]:
    return sources.iterate_lines([path])
