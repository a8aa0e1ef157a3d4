"""Tests of the model families and of what they share."""
