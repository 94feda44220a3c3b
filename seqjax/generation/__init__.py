"""Search, sampling and scoring: a model of `models.protocol` and ids go in, hypotheses come out."""
