"""Training: recipes, what is built from one, the loop, and the evaluation of a finished run."""
