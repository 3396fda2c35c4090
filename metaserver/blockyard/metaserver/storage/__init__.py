"""The metadata server's disk: log, state, checkpoints, and whose they are."""
