"""What models have in common that are fine-tuned from an encoder of waveforms."""
