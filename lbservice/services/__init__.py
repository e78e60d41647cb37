"""RUN: the services of the tree (balancer, monitor, eventlog, control)."""
