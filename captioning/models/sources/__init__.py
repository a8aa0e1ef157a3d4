"""Where models come from: folders, the hub, random weights, pairs of parts, Weights & Biases."""
