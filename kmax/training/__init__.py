"""The loop, optimiser and schedule, checkpoints, ranks, time budget."""
