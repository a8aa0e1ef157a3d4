"""The captioner that everybody shares: what it remembers, and whose turn it is."""
