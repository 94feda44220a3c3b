"""Recorded speech as data: manifests and files in, samples or features of a plan's batches out.

`manifests` and `labels` are wav2vec's and HuBERT's files, `s2t_config` and `s2t` those of
speech-to-text; `reading` reads samples, `datasets` makes batches of them. `filterbank`,
`normalization` and `specaugment` are features, computed by JAX, which they import; the others
cost no JAX. `augmentation` changes waveforms. Letters beside the usual ones: N samples, T frames.
"""
