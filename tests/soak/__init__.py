"""The soak test: `python -m tests.soak`. Mixed traffic and faults for a while; then nothing may be left over.

    server.py   a server process that misbehaves when asked to, and writes down every POST
    traffic.py  the clients: each kind knows which answers it must get
    faults.py   what happens to the servers and the balancer meanwhile, one thing at a time
    memory.py   whether resident memory grows, and how small a growth would be seen
    program.py  the whole run, the figures and the verdict

What must hold is exact. At any time at most one server is out of order, and every request that may
be repeated is repeated on another one, so such requests have no errors at all. What must not be
repeated, or has begun to be answered, may break when its server does: each such error must fall
into a moment at which a server was being killed or was resetting its connections.
"""
