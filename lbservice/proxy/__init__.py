"""MOVE bytes: Twisted protocols and factories between clients and servers, each thin."""
