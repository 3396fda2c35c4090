"""A metadata member: the shell around the Raft core and the state machine.

How a change travels, in the order of the code:

    metadata_service  takes the request, checks that it can be proposed, returns a `Deferred`
    driver.propose    gathers what arrives in one turn of the loop into one log entry
    driver            core.ready() → messages leave, log write and fsync, messages that depend on it leave
    peers / raft_service   carry Raft's messages; `wire` turns them into protobuf and back
    driver.apply      committed entries go through the state machine; state and applied index in one write
    waiting           each answer finds its caller

and a read: `driver.read` asks the core for a read index, once for all that wait, and runs the read at that index.
`admin_service` and `cluster_service` are for operators and storage nodes, `process` puts it all together.
"""
