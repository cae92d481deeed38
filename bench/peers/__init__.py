"""Scripts that run peers, each inside an environment of its own: `bench.harness.peer_environment`."""
