"""The ground truth of generated sites, held against the runs that collected them."""
