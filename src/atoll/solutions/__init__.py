"""Scenarios as ready jobs: the data, the job document, and what to compare the result with."""
