"""`twistd -ny lb.tac`: the same service as `twistd loadbalancer`.

Reads lb.ini of the folder it is started in, or the file that LB_CONFIG names.
"""

import os

from twisted.application.service import Application

from lbservice import tap

options = tap.Options()
options.parseOptions(["--config", os.environ.get("LB_CONFIG", "lb.ini")])

application = Application("lbservice")
tap.makeService(options).setServiceParent(application)
