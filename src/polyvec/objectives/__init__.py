"""Functions from vectors and masks to a scalar."""
