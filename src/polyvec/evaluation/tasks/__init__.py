"""Tasks: questions with a known answer, asked of Embeddings or of any ranker."""
