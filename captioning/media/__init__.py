"""Pictures, clips and collections from files, and every guard on input."""
