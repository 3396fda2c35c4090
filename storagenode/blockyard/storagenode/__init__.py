"""Storage nodes: immutable blocks on disks."""
