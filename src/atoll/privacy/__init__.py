"""Protection profiles: what a job promises about its process and its results."""
