"""Prompts, words, what the captions of a clip tell, and captions as files."""
