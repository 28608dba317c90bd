"""Speed and memory beside a peer in the same run: `python -m benchmarks.NAME`; LOG.md keeps what came of it."""
