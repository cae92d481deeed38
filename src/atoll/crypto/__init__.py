"""Cryptographic kernels: arrays and bytes in, arrays and bytes out; no sites, no messages, no I/O."""
