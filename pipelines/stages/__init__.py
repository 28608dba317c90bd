"""The stages of a recipe, a file each, and their order."""
