"""Decoding CTC models: log-probabilities of frames in, tokens, words and times out."""
