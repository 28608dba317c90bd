"""What the peers' own environments run: nothing of mmcorpus is imported here (see `benchmarks/dedup.py`)."""
