"""Tasks asked of Embeddings, and the report of the answers."""
