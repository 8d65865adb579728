"""posebook: what the notebooks need besides posekit. Figures, tables, analyses, benchmarks and studies."""
