"""Models from scenes and labels: samples, batches, losses, averaging over ranks, checkpoints."""
