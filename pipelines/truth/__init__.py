"""What a generated site knows of its samples, held against what a run made of them."""
