"""Batches of episodes: real games, games as the agent knows them, and dreams."""
