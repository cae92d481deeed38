"""A site's own tables: where they lie, what they hold, and typed columns out of them."""
