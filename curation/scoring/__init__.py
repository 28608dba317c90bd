"""Shards to score tables: one decode an image for all scorers, models on GPUs, model servers."""
