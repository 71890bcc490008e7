"""The agent: VAE, MDN-RNN, controller, their weight files, and the sets of weights of a run."""
