"""A site at work: its folder, its jobs, the steps of a job, and the process that runs them."""
