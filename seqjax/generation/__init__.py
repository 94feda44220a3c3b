"""Search, sampling and scoring. It knows models by their protocol alone."""
