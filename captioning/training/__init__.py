"""Fitting `patch_captioner` to captioned photographs, and measuring any captioner on them."""
