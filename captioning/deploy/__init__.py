"""Deployment to a Hugging Face Space as a Spacefile describes it, run by `python -m captioning deploy`.

`spacefile` reads the description. `manifest` finds the files to send. `plan` compares both with the Space. `space`
reads and changes the Space.
"""
