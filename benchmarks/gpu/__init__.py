"""One GPU in nine minutes: what training and scoring reach on it. `python -m benchmarks.gpu`; see `__main__.py`."""
