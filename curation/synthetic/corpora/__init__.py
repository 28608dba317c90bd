"""Real captioned corpora that need no account and little download, each made into a site (curation/miniweb)."""
