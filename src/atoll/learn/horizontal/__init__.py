"""Models over the rows of many sites, through nothing but sums over all sites; equal to the pooled ones."""
