"""One system per paper, each reading like its paper."""
