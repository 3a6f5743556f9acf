"""Nearest items of users: exact and approximate."""
