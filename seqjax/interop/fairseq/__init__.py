"""fairseq's files: checkpoints, configurations, command lines, output."""
