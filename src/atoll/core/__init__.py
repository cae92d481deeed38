"""The kernel: messages, channels, sessions and identity; it knows nothing of learning."""
