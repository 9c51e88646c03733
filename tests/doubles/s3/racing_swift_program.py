"""OpenStack Swift with its S3 API, as one process. Runs in an environment of its own: `python racing_swift_program.py FOLDER`.

The objects are in memory; the lists of accounts and containers are in FOLDER. It prints the port of the S3 API.
"""

import os
import sys

import eventlet

eventlet.monkey_patch()

from eventlet import listen, wsgi  # noqa: E402
from swift.account import server as account_server  # noqa: E402
from swift.common import storage_policy, utils  # noqa: E402
from swift.common.http_protocol import SwiftHttpProtocol  # noqa: E402
from swift.common.middleware import catch_errors, tempauth  # noqa: E402
from swift.common.middleware.s3api import s3api  # noqa: E402
from swift.common.ring import RingBuilder  # noqa: E402
from swift.container import server as container_server  # noqa: E402
from swift.obj import mem_server  # noqa: E402
from swift.proxy import server as proxy_server  # noqa: E402


class Cache:
    """Stands in for memcached, which the middlewares use."""

    def __init__(self, app: object) -> None:
        self.app, self.kept = app, {}

    def __call__(self, env: dict, start_response: object) -> object:
        env["swift.cache"] = self
        return self.app(env, start_response)

    def get(self, key: str, **_: object) -> object:
        return self.kept.get(key)

    def set(self, key: str, value: object, **_: object) -> None:
        self.kept[key] = value

    def delete(self, key: str, **_: object) -> None:
        self.kept.pop(key, None)

    def incr(self, key: str, delta: int = 1, **_: object) -> int:
        self.kept[key] = self.kept.get(key, 0) + delta
        return self.kept[key]


def main(folder: str) -> None:
    utils.HASH_PATH_PREFIX, utils.HASH_PATH_SUFFIX = b"recsys", b"recsys"
    os.makedirs(f"{folder}/devices/sda", exist_ok=True)
    sockets = {name: listen(("127.0.0.1", 0)) for name in ("account", "container", "object", "proxy")}
    for name in ("account", "container", "object"):
        ring = RingBuilder(1, 1, 0)
        device = {"id": 0, "region": 1, "zone": 1, "weight": 1.0, "ip": "127.0.0.1", "device": "sda"}
        ring.add_dev({**device, "port": sockets[name].getsockname()[1]})
        ring.rebalance()
        ring.get_ring().save(f"{folder}/{name}.ring.gz")
    policies = storage_policy.StoragePolicyCollection([storage_policy.StoragePolicy(0, "memory", True)])
    storage_policy._POLICIES = policies
    conf = {"devices": f"{folder}/devices", "mount_check": "false", "swift_dir": folder, "log_level": "ERROR"}
    conf |= {"allow_account_management": "true", "account_autocreate": "true", "log_name": "swift"}
    users = {"user_test_tester": "testing .admin", "reseller_prefix": "AUTH"}
    proxy = proxy_server.Application(conf)
    proxy = tempauth.filter_factory({**conf, **users})(proxy)
    proxy = s3api.filter_factory({**conf, "s3_acl": "false", "location": "us-east-1", "auth_pipeline_check": "false"})(proxy)
    proxy = catch_errors.filter_factory(conf)(Cache(proxy))
    applications = {
        "account": account_server.app_factory(conf),
        "container": container_server.app_factory(conf),
        "object": mem_server.app_factory(conf),
        "proxy": proxy,
    }
    with open(f"{folder}/log", "w", encoding="utf-8") as log:
        running = [
            eventlet.spawn(wsgi.server, sockets[name], application, log, protocol=SwiftHttpProtocol)
            for name, application in applications.items()
        ]
        print(sockets["proxy"].getsockname()[1], flush=True)
        for each in running:
            each.wait()


if __name__ == "__main__":
    main(sys.argv[1])
