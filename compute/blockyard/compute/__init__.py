"""Compute: map/reduce and edge tasks, sent to where the data is."""
