"""Deploying to a Hugging Face Space as a Spacefile describes it; run by `python -m captioning deploy`.

`spacefile` reads the description, `manifest` finds the files that go there, `plan` says what differs from what is
deployed, and `space` reads and changes the Space.
"""
