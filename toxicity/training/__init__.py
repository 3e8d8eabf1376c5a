"""Training: targets, losses, batches, the Trainer, and resumption after interruptions."""
