"""What a trained model looks at and gets wrong: attention, heatmaps, tokens, visible share."""
