"""The losses: one file per paper, and the matching they share."""
