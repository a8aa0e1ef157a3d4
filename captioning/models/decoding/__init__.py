"""Writing tokens: the loop, decoders with cross- and self-attention, and the engines that compute."""
