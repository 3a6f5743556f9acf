"""The command polyvec: one file per verb."""
