"""Other libraries' checkpoints: reading, writing, and their weights as our parameters."""
