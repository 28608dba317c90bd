"""Recipes: their schema, how they are loaded and checked, and what is wrong with them, with line and key."""
