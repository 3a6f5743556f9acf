"""PGTL."""
