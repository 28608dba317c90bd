"""A recipe as a run: what is up to date, what has to be run, its record, its summary."""
