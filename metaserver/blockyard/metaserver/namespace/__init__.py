"""The namespace as a deterministic state machine: which files exist, what they are made of, who may touch them.

No clock, socket, disk, thread or source of chance is in here: time, the session clock and chosen numbers come in the
command; the same commands on the same rows give the same rows and answers, byte for byte.
"""
