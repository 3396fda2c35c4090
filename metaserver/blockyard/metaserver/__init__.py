"""The metadata cluster: one namespace, agreed by Raft, on two machines and a witness."""
