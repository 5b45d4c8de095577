"""Monte-Carlo dropout: masks, iterations and moments, as compiled kernels and as the naive loop."""
