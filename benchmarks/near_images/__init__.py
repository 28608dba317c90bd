"""Near-duplicate images: copies that are found, and look-alikes that are not to be."""
