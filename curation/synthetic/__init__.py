"""Data that we make: rendered pictures, the mini-web, real corpora as sites, tiny models, WARC files."""
