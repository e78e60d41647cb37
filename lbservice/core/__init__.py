"""DECIDE: servers, backends, health and leases. Standard library only; no I/O, no clock of its own."""
