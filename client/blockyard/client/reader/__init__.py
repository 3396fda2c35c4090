"""From a range of a file to bytes: which slices, which replicas, which requests."""
