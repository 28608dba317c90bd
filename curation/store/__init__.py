"""The data on disk: identity, storage, shards, score tables, embeddings, the ledger, arrays of uids."""
