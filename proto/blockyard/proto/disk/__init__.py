"""What every server that keeps data on a disk does the same way: small sealed files, locks, and how a disk fails."""
