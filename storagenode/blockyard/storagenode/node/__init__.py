"""The storage node's process: who it is, what it knows of the cluster, how it lives and ends.

`process` puts the parts together. `identity` is what its directory says it is, `membership` how it registers and
heartbeats, `known_map` and `map_watch` what it knows of the cluster, `guard` which writes it may take, `disk_watch`
whether its disk still works, `service_list` what runs in the background, `metrics` what monitoring sees.
"""
