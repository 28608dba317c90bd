"""The stages of a recipe, a file a kind: what each is made from, what it makes, and the call that makes it.

`order.py` is where a recipe's stages are to be read in order; `context.py` is the run that they are described for. The
work itself is in `curation/`, `packing/` and `training/`, and the same by hand.
"""
