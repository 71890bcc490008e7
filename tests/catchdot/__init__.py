"""Catch the dot: the smallest game there is, and the package to copy for a new one (docs/new_game.md)."""
