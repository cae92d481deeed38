"""Private query: records by key, without telling which; `protocol` is the place to begin."""
