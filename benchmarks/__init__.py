"""This balancer beside HAProxy, nginx and Envoy: the same servers, the same load, one thread each."""
