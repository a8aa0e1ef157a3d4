"""Attention maps: their methods, faithfulness, pictures, files and page value."""
