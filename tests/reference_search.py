"""fairseq's search for one sentence, restated slowly with lists: what the compiled search
must equal. Written from its rules, sharing no code with seqjax."""

from __future__ import annotations

import math

import numpy as np

NEG = -math.inf


def log_softmax(logits, temperature=1.0):
    x = np.asarray(logits, np.float64) / temperature
    if np.isnan(x).any():
        return np.full(len(x), NEG)
    return x - x.max() - np.log(np.exp(x - x.max()).sum())


def best(pairs, k):
    """The k best (score, flat index) pairs, lower index first among equals."""
    return sorted(pairs, key=lambda p: (-p[0], p[1]))[:k]


def ngram_banned(tokens, n):
    seen = {}
    for i in range(len(tokens) - n + 1):
        seen.setdefault(tuple(tokens[i:i + n - 1]), set()).add(tokens[i + n - 1])
    return seen.get(tuple(tokens[len(tokens) - n + 1:]) if n > 1 else (), set())


def plain_select(lp, totals, step, multiple=2, limit=None):
    w, v = len(lp), len(lp[0])
    rows = range(1) if step == 0 else range(w)
    pairs = [(lp[b][t] + totals[b], b * v + t) for b in rows for t in range(v)]
    k = min(multiple * w, (v if step == 0 else w * v) - 1)
    return [(s, i % v, i // v) for s, i in best(pairs, k)]


def sibling_select(lp, totals, step, rate):
    if step == 0:
        return plain_select(lp, totals, step)
    w, v = len(lp), len(lp[0])
    k = min(2 * w, w * v - 1)
    flat = []
    for b in range(w):
        row = best([(lp[b][t] + totals[b], t) for t in range(v)], k)
        flat += [(s - rate * (rank + 1), t, b) for rank, (s, t) in enumerate(row)]
    order = best([(c[0], i) for i, c in enumerate(flat)], k)
    return [flat[i] for _, i in order]


def diverse_select(lp, totals, step, groups, strength, overlap):
    w = len(lp)
    size, chosen = w // groups, []
    for g in range(groups):
        rows = [list(lp[b]) for b in range(g, w, groups)]
        for other in range(g):
            for _, token, _ in chosen[other]:
                for row in rows:
                    row[token] -= strength * (1 + overlap[g][other])
        found = plain_select(rows, totals[g::groups], step, multiple=1)
        chosen.append([(s, t, b * groups + g) for s, t, b in found])
    for g in range(groups):
        for h in range(groups):
            overlap[g][h] += sum(chosen[g][j][1] == chosen[h][j][1] for j in range(size))
    return [chosen[g][j] for j in range(size) for g in range(groups)]


def search(next_logits, *, beam, vocabulary, max_len, source_len, pad=1, eos=2, unk=3, min_len=1,
           unkpen=0.0, temperature=1.0, lenpen=1.0, unnormalized=False, match_source_len=False,
           ngram=0, suppress=(), prefix=(), groups=0, strength=0.5, rate=0.0, lm=None,
           lm_weight=0.0, constraint=None, exempt=0):
    """`next_logits(tokens)` -> list of arrays [V], one per model of the ensemble; `constraint`: of
    `reference_constraints`; `exempt`: first steps in which `min_len` and `suppress` do not hold.

    Returns a list of (tokens, score, positional scores), best first.
    """
    w = min(beam, vocabulary - 1)
    tokens, totals, ignore = [[] for _ in range(w)], [[] for _ in range(w)], [False] * w
    finished, overlap = [], [[0] * groups for _ in range(groups)]
    for step in range(max_len + 1):
        lp = []
        for b in range(w):
            each = [log_softmax(x, temperature) for x in next_logits(tokens[b])]
            with np.errstate(divide="ignore"):
                row = each[0] if len(each) == 1 else np.log(np.mean(np.exp(each), axis=0))
            row = row.copy()
            if lm is not None:
                row = row + lm_weight * log_softmax(lm(tokens[b]))
            row[pad] = NEG
            row[unk] -= unkpen
            lp.append(row)
        forced = None
        if step >= max_len:
            forced = eos
        elif step < len(prefix) and prefix[step] != pad:
            forced = prefix[step]
            if forced == eos:
                tokens = [list(tokens[0]) for _ in range(w)]
                totals = [list(totals[0]) for _ in range(w)]
                lp = [lp[0].copy() for _ in range(w)]
        for b, row in enumerate(lp):
            keep = row[forced] if forced is not None else None
            if forced is not None:
                row[:] = NEG
                row[forced] = keep
            else:
                if exempt <= step < min_len:
                    row[eos] = NEG
                for token in suppress if step >= exempt else ():
                    row[token] = NEG
                for token in ngram_banned(tokens[b], ngram) if ngram else ():
                    row[token] = NEG
            if match_source_len and (forced is None or forced == eos):
                row[eos] = NEG if step < source_len else 0.0
        before = [t[-1] if t else 0.0 for t in totals]
        if constraint is not None:
            candidates = constraint.select(lp, before, step, tokens)
        elif groups:
            candidates = diverse_select(lp, before, step, groups, strength, overlap)
        elif rate:
            candidates = sibling_select(lp, before, step, rate)
        else:
            candidates = plain_select(lp, before, step)
        ends = []
        for rank, (score, token, _) in enumerate(candidates):
            hidden = rank < w and ignore[rank]
            ends.append(token == eos and score > NEG and not hidden)
        for rank, (score, _, b) in enumerate(candidates[:w]):
            if ends[rank] and len(finished) < w:
                final = score if unnormalized else score / (step + 1) ** lenpen
                if match_source_len and step > source_len:
                    final = NEG
                positional = np.diff([0.0, *totals[b], score])
                finished.append((tokens[b] + [eos], final, positional))
        if len(finished) == w or step == max_len:
            break
        excluded = [e or (rank < w and ignore[rank]) for rank, e in enumerate(ends)]
        order = sorted(range(len(candidates)), key=lambda r: (excluded[r], r))[:w]
        ignore = [excluded[r] for r in order]
        if constraint is not None:
            constraint.keep(order)
        tokens, totals = (
            [tokens[candidates[r][2]] + [candidates[r][1]] for r in order],
            [totals[candidates[r][2]] + [candidates[r][0]] for r in order])
    return sorted(finished, key=lambda h: -h[1])
