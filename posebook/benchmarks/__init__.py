"""Speed studies of the papers and benchmarks of the library."""
