"""Recordings of episodes, and the series of codes that the MDN-RNN learns from."""
