"""Running work: spread over Ray, an item at a time, committed atomically; work files, progress."""
