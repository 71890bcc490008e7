"""Agents that play: scores, videos, recordings, and people at the keyboard."""
