"""Training: optimizers, schedules, the compiled step, sharding, checkpoints, the loop."""
