"""Training of the VAE, the MDN-RNN and the controller, and the iterative procedure."""
