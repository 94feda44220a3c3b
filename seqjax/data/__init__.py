"""Data: vocabularies, tokenizers, the token store, raw sources, batches.

Nothing is imported here: `import seqjax.data.indexed` costs numpy and no more.
"""
