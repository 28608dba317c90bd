"""How work is done: spread over Ray, an item at a time, committed atomically; work files, progress."""
