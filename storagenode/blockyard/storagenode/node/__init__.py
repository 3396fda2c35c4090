"""The storage node's process: who it is, what it knows of the cluster, how it lives and ends.

`process` begins and ends everything, `parts` makes store, service and background work from the settings. `directory` is
whose disk it is, `membership` how the node registers and heartbeats, `condition` what it says then, `known_map` and
`map_watch` what it knows of the cluster, `guard` which writes it may take, `disk_watch` whether its disk still works,
`service_list` what runs in the background, `door_thread` gRPC, `metrics` what monitoring sees.
"""
