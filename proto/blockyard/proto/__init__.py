"""The contract: messages, ids, errors, the two transports, settings, logs and metrics. Everything else stands on it."""
