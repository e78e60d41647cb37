"""lbservice: a load balancer on Twisted that can be read, questioned and changed while it runs."""

__version__ = "0.1.0"
