"""Moving and keeping: what a sample is, where it lies, what is known of it, and what was decided.

Public names live in the packages and modules below; each lists its own in `__all__` or at its top.

| package | what |
|---|---|
| `store` | identity, files, shards, score tables, embeddings, the ledger |
| `engine` | work spread over Ray, committed an item at a time |
| `download` | URL lists to shards |
| `crawl`, `html`, `documents` | WARC, HTML and published corpora to documents with their images in place |
| `scoring` | shards to score tables; models on GPUs and behind servers |
| `dedup`, `evaluations` | duplicates over whole sources; evaluation sets to decontaminate against |
| `selection` | columns to uids and counts; a selection as new shards |
| `synthetic` | data that we make: rendered pictures, the mini-web, real corpora as sites |
"""
