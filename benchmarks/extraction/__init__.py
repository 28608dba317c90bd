"""Main content with its images, ours against trafilatura, resiliparse and readability, on pages labelled by hand."""
