"""The embedded data set: people, crowds and macaques drawn from a seed, with exact COCO annotations."""
