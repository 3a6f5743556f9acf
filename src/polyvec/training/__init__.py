"""The visible training loop and what it needs."""
