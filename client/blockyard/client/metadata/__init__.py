"""The client's end of the metadata group: its session, what it remembers of the namespace, paths, and changes."""
