"""What a node does without being asked: repair, leaving, reclaim, gc, scrub.

Pure cores (no clock, no network, no disk; the property tests run them against a plain model):

- `windows`     several sorted lists of ids, cut into windows of one range of ids
- `exchange`    what a window says: what this node lacks, and what it alone has
- `agenda`      which groups to look at next, which to fill first, which are complete
- `sources`     from which holder a block is fetched, and what is fetched in one request
- `pace`        token bucket, and how fast a scrub must go

Shells, each with threads of its own: `repair`, `leaving`, `reclaimer`, `collector`, `scrubber`. They meet the store,
the other nodes (`peers`), and the metadata group (`fates`); `upkeep` makes and ends them.

Two facts make it all safe. A block never changes, so a set difference says everything. And "dead" and "unknown" are
final: an id that the metadata group once called so never lives again, so `Dropped` may refuse it for ever.
"""
