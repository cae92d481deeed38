"""Lookup databases: records of a site, by key, in the form in which others may ask for them privately."""
