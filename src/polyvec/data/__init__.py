"""From any source of events to a Dataset, and from a Dataset to windows and batches."""
