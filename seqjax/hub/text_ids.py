"""Texts as the ids that pretrained models read: fairseq's hub, whose `encode` joins several.

    <s> a </s>                      one text
    <s> a </s> </s> b </s>          a pair, for a model that encodes
    <s> a </s> b </s>               a pair, for a model whose decoder reads the sentence as well
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seqjax.models.protocol import SentenceClassifier
from seqjax.tasks import inputs
from seqjax.tasks.protocol import TextTask


def sentence_ids(
    task: TextTask, model: SentenceClassifier, texts: Sequence[str]
) -> np.ndarray:
    """One sequence of ids of one text or several.

    A task that says itself what stands in front of its inputs (`init_token`,
    `separator_token`), as the tasks of labelled sentences do, is followed: so was the model
    trained. Else it is as fairseq's hub has it.

    Returns:
      [S] int32.
    """
    vocab, config = task.source_vocab, task.config
    first = getattr(config, "init_token", None)
    between = getattr(config, "separator_token", None)
    if between is None and not model.decodes_source:
        between = vocab.eos
    parts = [np.array([vocab.bos if first is None else first], np.int32)]
    for number, text in enumerate(texts):
        if number and between is not None:
            parts.append(np.array([between], np.int32))
        parts.append(inputs.encode_source(task, text).ids)
    return np.concatenate(parts)
