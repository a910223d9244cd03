# SPDX-License-Identifier: Apache-2.0
"""Drives ganeti's QMP client: drive_ganeti.py SOCKET. Says "ok NAME" for each thing that went well."""
import os
import sys

from ganeti import errors
from ganeti.hypervisor.hv_kvm.monitor import QmpConnection


def ok(name, condition=True):
    print(("ok " if condition else "bad ") + name, flush=True)


with QmpConnection(sys.argv[1]) as mon:
    ok("greeting", len(mon.version) == 3 and mon.package.startswith("godwit"))
    ok("query-commands", {"device_add", "query-pci", "getfd", "query-block"} <= mon.supported_commands)
    ok("query-status", mon.Execute("query-status")["status"] == "inmigrate")
    ok("query-name", mon.Execute("query-name") == {})
    ok("query-fdsets", mon.Execute("query-fdsets") == [])
    ok("arguments", mon.Execute("migrate-set-parameters", {"downtime-limit": 77}) == {})
    ok("answers", mon.Execute("query-migrate-parameters")["downtime-limit"] == 77)
    try:
        mon.Execute("device_del", {"id": "x"})
        ok("errors", False)
    except errors.HypervisorError as err:
        ok("errors", "GenericError" in str(err) or "DeviceNotFound" in str(err))
    for name in ("add-fd", "getfd"):
        try:
            mon.Execute(name, {} if name == "add-fd" else {"fdname": "x"})
            ok(name + " without a descriptor", False)
        except errors.HypervisorError as err:
            ok(name + " without a descriptor", "SCM_RIGHTS" in str(err))
ok("closed", not mon.is_connected())
