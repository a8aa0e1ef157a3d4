"""Training of `patch_captioner` on captioned photographs, and evaluation of any captioner on them."""
