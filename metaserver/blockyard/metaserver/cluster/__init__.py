"""Which storage nodes there are, which placement groups they hold, and which block ids a writer may use.

Pure parts: `shares`, `placement`, `rebalance`, `preference` (the table) and `liveness` (the leader's clock). Replicated
parts, on `state.Transaction`: `nodes`, `map`, `leases`, `reclaim`, `fates`. `cluster_state` is their face to the
dispatcher.
"""
