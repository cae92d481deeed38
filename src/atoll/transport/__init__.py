"""Ways for frames to reach another site: within a process, and over gRPC with mutual TLS."""
