"""polyvec: general user and item embeddings for e-commerce."""
