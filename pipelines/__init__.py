"""Recipes: one pipeline a file, found by looking, and the commands that run, compile and submit them."""
