"""A promise about what is kept: calibrated on held-out labels, remembered in a file, withdrawn where data differ."""
