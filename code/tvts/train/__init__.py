"""Pre-training: deterministic samples (`data`), the optimiser (`optim`), checkpoints, processes, and the loop that joins them."""
