"""What the paper measures (arXiv 2403.01076), measured here, CIFAR-100-C included."""
