"""Moving and keeping: what a sample is, where it lies, what is known of it, and what was decided.

Public names live in the packages and modules below; each lists its own in `__all__` or at its top.

| where | what |
|---|---|
| `curation.download` | URL lists to shards, through img2dataset on Ray |
| `curation.render`, `curation.miniweb`, `curation.corpora` | data that we make, a web to fetch it from, real corpora |
| `curation.scoring`, `curation.scores` | shards to score tables on Ray; score tables to columns |
| `curation.embeddings`, `curation.image_based` | what models saw, by uid; DataComp's filter over it |
| `curation.selection`, `curation.dedup` | columns to uids and counts; duplicates over whole sources |
| `curation.reshard` | a selection as new shards |
| `curation.ledger`, `curation.trace` | where every sample went; the whole story of one |
| `curation.identity`, `curation.storage`, `curation.shards`, `curation.engine` | what the others stand on |
"""
