"""A shop whose truth is planted: interests, seasons, users, and how well anyone could foretell them."""
