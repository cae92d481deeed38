"""What a site leaves running for its partners, and what their side of it does."""
