"""fairseq's lexically constrained and prefix-constrained selection, restated slowly with
objects and lists, for `reference_search.search(constraint=...)`. Shares no code with seqjax."""

from __future__ import annotations

import collections
import math

from reference_search import NEG, plain_select


class OrderedState:
    """Where one hypothesis stands in its phrases, which come one after the other."""

    def __init__(self, phrases, met=0):
        self.phrases = phrases
        self.line = [t for phrase in phrases for t in phrase]
        self.last = [i == len(p) - 1 for p in phrases for i in range(len(p))]
        self.met = met

    @property
    def bank(self):
        return self.met

    @property
    def finished(self):
        return self.met == len(self.line)

    @property
    def span(self):
        return len(self.line)

    def next_tokens(self):
        found = set()
        if self.met > 1:
            found.add(self.line[0])
        if not self.finished:
            found.add(self.line[self.met])
        return found

    def advance(self, token):
        if self.finished:
            met = self.met
        elif token == self.line[self.met]:
            met = self.met + 1
        elif self.met == 0 or self.last[self.met - 1]:
            met = self.met
        else:
            met = 1 if token == self.line[0] else 0
        return OrderedState(self.phrases, met)


class Node:
    def __init__(self, token=None, parent=None):
        self.token, self.parent = token, parent
        self.children, self.ends, self.through = {}, 0, 0

    def add(self, phrase):
        self.through += 1
        if not phrase:
            self.ends += 1
            return
        child = self.children.setdefault(phrase[0], Node(phrase[0], self))
        child.add(phrase[1:])

    def tokens(self):
        return {t for child in self.children.values() for t in {child.token, *child.tokens()}}


class UnorderedState:
    """Where one hypothesis stands in the trie of its phrases."""

    def __init__(self, phrases):
        self.root = self.node = Node()
        for phrase in phrases:
            self.root.add(list(phrase))
        self.passed, self.met = collections.Counter(), collections.Counter()

    def moved(self, node):
        new = object.__new__(UnorderedState)
        new.root, new.node = self.root, node
        new.passed, new.met = self.passed.copy(), self.met.copy()
        if node is not self.root:
            new.passed[node] += 1
        return new

    @property
    def bank(self):
        return sum(self.passed.values())

    @property
    def finished(self):
        here = self.met[self.node] < self.node.ends
        return sum(self.met.values()) + here == self.root.through

    @property
    def span(self):
        return len(self.root.tokens())

    def next_tokens(self):
        return set(self.root.children) | set(self.node.children)

    def advance(self, token):
        child = self.node.children.get(token)
        if child is not None and self.passed[child] < child.through:
            return self.moved(child)
        child = self.root.children.get(token)
        fits = child is not None and self.passed[child] < child.through
        new = self.moved(child if fits else self.root)
        node = self.node
        while node is not self.root:
            if self.met[node] < node.ends:
                new.met[node] += 1
                break
            new.passed[node] -= 1
            node = node.parent
        return new


STATES = {"ordered": OrderedState, "unordered": UnorderedState}


class Constrained:
    """Dynamic beam allocation. Impossible candidates come last (in fairseq they may take
    places at the very end, in an order that is its sort's)."""

    multiple = 2

    def __init__(self, phrases, order, *, beam, eos=2):
        self.states = [STATES[order](phrases)] * beam
        self.eos = eos

    def select(self, lp, totals, step, tokens):
        w, v = len(lp), len(lp[0])
        if step > 0:
            for row, state in zip(lp, self.states, strict=True):
                if not state.finished:
                    row[self.eos] = NEG
        rows = range(1) if step == 0 else range(w)
        count = min(2 * w, w * v - 1)
        found = plain_select(lp, totals, step)
        for b in rows:
            scores = [x + totals[b] for x in lp[b]]
            wanted = self.states[b].next_tokens()
            if step > 0:
                wanted = [scores.index(max(scores)), *sorted(wanted)]
            found += [(scores[t], t, b) for t in wanted]
        with_states = [(s, t, b, self.states[b].advance(t)) for s, t, b in found]
        span = self.states[0].span
        with_states.sort(key=lambda c: (-((span - c[3].bank) * -100 + c[0]), -c[0], c[2], c[1]))
        unique = [c for i, c in enumerate(with_states)
                  if i == 0 or c[1:3] != with_states[i - 1][1:3]]
        possible = [c for c in unique if c[0] > NEG]
        stripes, number, bank = [], -1, None
        for c in possible:
            number = 0 if c[3].bank != bank else number + 1
            bank = c[3].bank
            stripes.append(span - bank + number * (len(unique) + 1))
        order = sorted(range(len(possible)), key=lambda i: (stripes[i], i))[:count]
        chosen = [possible[i] for i in order]
        chosen += [(NEG, 0, 0, self.states[0])] * (count - len(chosen))
        self.candidates = [c[3] for c in chosen]
        return [c[:3] for c in chosen]

    def keep(self, order):
        self.states = [self.candidates[r] for r in order]


class Permitted:
    """Only what a function allows: fairseq's calls it with the leading bos."""

    multiple = 1

    def __init__(self, function, sentence, bos=2):
        self.function, self.sentence, self.bos = function, sentence, bos

    def select(self, lp, totals, step, tokens):
        masked = []
        for row, past in zip(lp, tokens, strict=True):
            allowed = set(self.function(self.sentence, [self.bos, *past]))
            masked.append([x if t in allowed else NEG for t, x in enumerate(row)])
        return plain_select(masked, totals, step, multiple=1)

    def keep(self, order):
        pass


def contains(tokens, phrases, order):
    """Whether an output has the phrases: in order without overlap, or each as often as it is
    asked for."""
    tokens = list(tokens)
    begins = lambda p, i: tokens[i:i + len(p)] == list(p)  # noqa: E731
    if order == "ordered":
        at = 0
        for phrase in phrases:
            at = next((i + len(phrase) for i in range(at, len(tokens)) if begins(phrase, i)),
                      math.inf)
            if at == math.inf:
                return False
        return True
    counts = collections.Counter(tuple(p) for p in phrases)
    return all(sum(begins(p, i) for i in range(len(tokens))) >= n for p, n in counts.items())
