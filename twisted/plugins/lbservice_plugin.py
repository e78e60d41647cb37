"""Names the service to twistd and twist: `twistd loadbalancer`."""

from twisted.application.service import ServiceMaker

lbservice = ServiceMaker(
    "lbservice", "lbservice.tap", "A load balancer for HTTP and TCP that can be changed while it runs.", "loadbalancer"
)
