"""HTTP connections that reach public hosts alone, for addresses that strangers wrote."""

import ipaddress
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from modalrec.data.archives import BadFile

NAT64 = ipaddress.ip_network("64:ff9b::/96")


def refuse_private(address: str) -> None:
    """Refuses what is not a public address of the internet.

    Raises:
        BadFile: It belongs to this machine, its network, or no host at all.
    """
    found: Any = ipaddress.ip_address(address.partition("%")[0])
    if found.version == 6:
        if found in NAT64:
            found = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        else:
            found = found.ipv4_mapped or found.sixtofour or found
    if not found.is_global or found.is_multicast:
        raise BadFile("not a public host")


class _PublicConnection(HTTPConnection):
    """Looks once more at who has answered: a name may have got another address since it was checked."""

    def connect(self) -> None:
        super().connect()
        _check_peer(self)


class _PublicTlsConnection(HTTPSConnection):
    """As `_PublicConnection`, by TLS."""

    def connect(self) -> None:
        super().connect()
        _check_peer(self)


class _PublicPool(HTTPConnectionPool):
    ConnectionCls = _PublicConnection


class _PublicTlsPool(HTTPSConnectionPool):
    ConnectionCls = _PublicTlsConnection


def _check_peer(connection: HTTPConnection) -> None:
    if connection.sock is None:
        return
    try:
        refuse_private(str(connection.sock.getpeername()[0]))
    except BadFile:
        connection.close()
        raise


PUBLIC_POOLS: dict[str, Any] = {"http": _PublicPool, "https": _PublicTlsPool}
"""For `urllib3.PoolManager.pool_classes_by_scheme`."""
