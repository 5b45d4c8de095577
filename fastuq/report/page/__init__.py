"""A scored data set as one HTML page: self-contained, for the eye, the keyboard, the phone and paper."""
