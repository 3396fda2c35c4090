"""From written bytes to blocks and slices: what is still in memory, what is on its way, what may be committed."""
