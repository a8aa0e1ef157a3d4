"""One file (or package) a family of models, each of which declares `FAMILY`; found by looking into this folder."""
