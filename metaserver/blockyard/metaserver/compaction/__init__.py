"""Compaction of crowded chunks: the leader chooses, a storage node writes the new block, the leader swaps it in.

`policy` says what of a chunk is worth rewriting, `chooser` which chunk is next and which node does it; both are pure.
`runner` carries it out on the leader. Why it is so, with the arithmetic: docs/decisions/0004-compaction.md.
"""
