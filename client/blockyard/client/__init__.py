"""The client: one library with many faces, from Python, from pandas, as a mount and from the shell."""
