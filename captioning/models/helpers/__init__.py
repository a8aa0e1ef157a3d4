"""Models that help captions: a classifier, and one that sums up."""
