"""Makes a disk that a server exports by NBD this node's /dev/nbd0, and keeps it so for as long as the node runs.

    client.py ADDRESS PORT EXPORT [INDEX]

Runs in the initramfs, from an interpreter that came with it, and returns once the disk and its partitions are there. A
process stays behind: when the connection breaks, because the server was killed or restarted, it makes a new one and
hands it to the kernel. What is read and written meanwhile waits; nothing fails. It never gives up: a server that is
not there, does not know the export or has a disk of another size in its place may be put right.

The root file system is on that disk, so the process that stays needs nothing from it: all its files are those of the
initramfs, all its memory is locked, and it takes none that would have to be written out first.

Sources: the NBD protocol (doc/proto.md of the NetworkBlockDevice project), linux/nbd-netlink.h, linux/genetlink.h,
drivers/block/nbd.c. Kernels from 5.9 on send what was under way again over the new connection; before, it fails.

Needs the standard library of Python 3.9 only, and of it what `pibake.image.python` takes into the initramfs.
"""

import ctypes
import os
import socket
import struct
import sys
import time

NBD_MAGIC = b"NBDMAGIC"
OPTION_MAGIC = b"IHAVEOPT"
REPLY_MAGIC = 0x3E889045565A9
FIXED_NEWSTYLE = 1  # the same bit in the server's flags and in the client's
OPT_GO = 7
REP_ACK, REP_INFO = 1, 3
INFO_EXPORT = 0
FAULTS = {
    (1 << 31) + 1: "is too old: it does not know NBD_OPT_GO",
    (1 << 31) + 2: "refuses this node by its policy",
    (1 << 31) + 5: "asks for TLS",
    (1 << 31) + 6: "has no such export: is this node in the server's cluster.yaml, with `root: nbd`?",
    (1 << 31) + 7: "is shutting down",
}

SECTOR = 512  # of the partition table, which the kernel reads in blocks of the disk
PATIENCE = 10  # seconds for a server to take a connection, and for each of its answers
LONGEST_PAUSE = 2  # seconds between two attempts
SILENCE = 30  # seconds until a server that does not even acknowledge is given up
QUEUE = {
    "io_timeout": "5000",  # milliseconds until the kernel looks whether what was under way has a new connection
    "max_sectors_kb": "1024",  # the server sees to it that each write is on its disk: the fewer, the faster
}
DEAD_CONN_TIMEOUT = 20 * 86400  # seconds that I/O waits: about what fits into 31 bits at 1000 Hz

NETLINK_GENERIC = 16
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 270, 1
NLMSG_ERROR = 2
NLM_F_REQUEST, NLM_F_ACK = 1, 4
NESTED = 1 << 15
GENL_ID_CTRL = 16
CTRL_CMD_GETFAMILY = 3
CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME, CTRL_ATTR_MCAST_GROUPS = 1, 2, 7
CTRL_ATTR_MCAST_GRP_NAME, CTRL_ATTR_MCAST_GRP_ID = 1, 2

NBD_CMD_CONNECT, NBD_CMD_RECONFIGURE, NBD_CMD_LINK_DEAD = 1, 3, 4
NBD_ATTR_INDEX, NBD_ATTR_SIZE_BYTES, NBD_ATTR_BLOCK_SIZE_BYTES = 1, 2, 3
NBD_ATTR_SERVER_FLAGS, NBD_ATTR_SOCKETS, NBD_ATTR_DEAD_CONN_TIMEOUT = 5, 7, 8
NBD_SOCK_ITEM = NBD_SOCK_FD = 1

MCL_CURRENT, MCL_FUTURE = 1, 2
PR_SET_IO_FLUSHER = 57


class Fault(Exception):
    """What is wrong with the server or its export; tried again all the same."""


# --- the server ---


def connect(address, port, name, known=None):
    """Return a connection to an export, ready for requests, and its size in bytes and transmission flags.

    The size has to be the one `known` before, if any.
    """
    link = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        for level, option, value in (
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE // 3),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE // 6),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE * 1000),
        ):
            link.setsockopt(level, option, value)
        link.settimeout(PATIENCE)
        link.connect((address, port))
        size, flags = negotiate(link, name, known)
        link.settimeout(None)
    except BaseException:
        link.close()
        raise
    return link, size, flags


def negotiate(link, name, known=None):
    """Ask for an export as "Fixed newstyle negotiation" has it; return its size in bytes and transmission flags."""
    greeting, options, flags = struct.unpack(">8s8sH", receive(link, 18))
    if greeting != NBD_MAGIC or options != OPTION_MAGIC or not flags & FIXED_NEWSTYLE:
        raise Fault("what answers there is no NBD server")
    encoded = name.encode()
    wish = struct.pack(">I", len(encoded)) + encoded + struct.pack(">H", 0)
    header = struct.pack(">8sII", OPTION_MAGIC, OPT_GO, len(wish))
    link.sendall(struct.pack(">I", FIXED_NEWSTYLE) + header + wish)
    export = None
    while True:
        magic, option, kind, length = struct.unpack(">QIII", receive(link, 20))
        if magic != REPLY_MAGIC or option != OPT_GO or length > 65536:
            raise Fault("the NBD server answers something else than it was asked")
        data = receive(link, length)
        if kind == REP_INFO and data[:2] == struct.pack(">H", INFO_EXPORT):
            export = struct.unpack(">QH", data[2:12])
        elif kind == REP_ACK and export and known in (None, export[0]):
            return export
        elif kind == REP_ACK and export:
            raise Fault(
                "the disk has %d bytes instead of %d: another one took its place" % (export[0], known)
            )
        elif kind != REP_INFO:
            said = data.decode("utf-8", "replace")
            why = FAULTS.get(kind, "refuses with reply %#x" % kind)
            raise Fault("the NBD server %s%s" % (why, " (%s)" % said if said else ""))


def receive(link, count):
    """Return exactly `count` bytes."""
    data = b""
    while len(data) < count:
        part = link.recv(count - len(data))
        if not part:
            raise Fault("the NBD server closed the connection")
        data += part
    return data


# --- the kernel ---


def attribute(kind, data):
    """Return a netlink attribute: its length and type, its data, and zeros up to a multiple of 4 bytes."""
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def number(kind, value, form="=Q"):
    return attribute(kind, struct.pack(form, value))


def attributes(data):
    """Return the attributes in `data` by type."""
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found[kind & ~NESTED] = data[4:length]
        data = data[max(length + 3 & ~3, 4) :]
    return found


def message(family, sequence, command, version, payload):
    """Return a request of generic netlink, to be acknowledged: struct nlmsghdr, struct genlmsghdr, attributes."""
    header = struct.pack("=IHHII", 20 + len(payload), family, NLM_F_REQUEST | NLM_F_ACK, sequence, 0)
    return header + struct.pack("=BBH", command, version, 0) + payload


def sockets(link):
    """Return the attribute that hands over one socket."""
    item = attribute(NBD_SOCK_ITEM | NESTED, number(NBD_SOCK_FD, link.fileno(), "=I"))
    return attribute(NBD_ATTR_SOCKETS | NESTED, item)


def connecting(index, link, size, flags):
    """Return what NBD_CMD_CONNECT says: the disk, and that I/O waits when the connection is dead.

    There is no NBD_ATTR_TIMEOUT: it would give up a server that is slow but alive, and send again what that server
    may still carry out, after what has been written since.
    """
    return (
        number(NBD_ATTR_INDEX, index, "=I")
        + number(NBD_ATTR_SIZE_BYTES, size)
        + number(NBD_ATTR_BLOCK_SIZE_BYTES, SECTOR)
        + number(NBD_ATTR_SERVER_FLAGS, flags)
        + number(NBD_ATTR_DEAD_CONN_TIMEOUT, DEAD_CONN_TIMEOUT)
        + sockets(link)
    )


def reconfiguring(index, link):
    """Return what NBD_CMD_RECONFIGURE says: the socket that takes the place of a dead one."""
    return number(NBD_ATTR_INDEX, index, "=I") + sockets(link)


class Kernel:
    """The kernel's NBD client, by generic netlink: one socket for requests, one for what it says of itself."""

    def __init__(self):
        self.requests = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC)
        self.events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC)
        for end in (self.requests, self.events):
            end.bind((0, 0))
        self.sequence = 0
        known = self.ask(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, attribute(CTRL_ATTR_FAMILY_NAME, b"nbd\0"))
        self.family = struct.unpack("=H", known[CTRL_ATTR_FAMILY_ID])[0]
        for group in attributes(known[CTRL_ATTR_MCAST_GROUPS]).values():  # there is one: nbd_mc_group
            ident = attributes(group)[CTRL_ATTR_MCAST_GRP_ID]
            self.events.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, struct.unpack("=I", ident)[0])

    def ask(self, family, command, payload):
        """Send a request and return the attributes of the answer, if there is one; OSError is the kernel's."""
        self.sequence += 1
        self.requests.send(message(family, self.sequence, command, 1, payload))
        answer = {}
        while True:
            data = self.requests.recv(65536)
            while len(data) >= 16:
                length, kind, _, sequence, _ = struct.unpack_from("=IHHII", data)
                if sequence == self.sequence and kind == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", data, 16)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                    return answer
                if sequence == self.sequence:
                    answer = attributes(data[20:length])
                data = data[max(length + 3 & ~3, 16) :]

    def wait_for_death(self, index):
        """Return when the connection of a disk is dead, or may be: what the kernel said can get lost."""
        while True:
            try:
                data = self.events.recv(65536)
            except OSError:  # ENOBUFS
                return
            said = attributes(data[20:]).get(NBD_ATTR_INDEX)
            if len(data) >= 20 and data[16] == NBD_CMD_LINK_DEAD and said == struct.pack("=I", index):
                return


# --- this process ---


def say(text, level=6):
    """Write a line, in one piece as /dev/kmsg wants it, with a priority of syslog(2)."""
    try:
        os.write(2, ("<%d>pibake-nbd: %s\n" % (level, text)).encode())
    except OSError:  # there is more to do than to talk
        pass


def persist(address, port, name, known=None):
    """Return what `connect` does, however long it takes."""
    pause, told = 0.1, ""
    while True:
        try:
            return connect(address, port, name, known)
        except (OSError, Fault, struct.error) as error:
            if str(error) != told:
                told = str(error)
                say("%s of %s:%d: %s; trying again" % (name, address, port, told), level=3)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def settle():
    """Depend on nothing that I/O could hold up, and be spared by systemd and the kernel when they end processes."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(MCL_CURRENT | MCL_FUTURE):
        say("memory is not locked: %s" % os.strerror(ctypes.get_errno()), level=4)
    libc.prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0)  # Linux 5.6
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("-1000")
    # What systemd leaves alone at switch-root and shutdown is told by the first character of the command line
    # (systemd's "Storage Daemons for the Root File System"), which is the memory from `arg_start` on (proc(5)).
    with open("/proc/self/stat") as file:
        start = int(file.read().rpartition(")")[2].split()[45])
    ctypes.memset(start, ord("@"), 1)


def attach(index, link, size, flags):
    """Give the connection to the kernel as a disk, and have it look for partitions; return the kernel's end."""
    kernel = Kernel()
    kernel.ask(kernel.family, NBD_CMD_CONNECT, connecting(index, link, size, flags))
    for setting, value in QUEUE.items():
        with open("/sys/block/nbd%d/queue/%s" % (index, setting), "w") as file:
            file.write(value)
    os.close(os.open("/dev/nbd%d" % index, os.O_RDONLY))  # the first to open a disk has its partitions read
    return kernel


def keep(kernel, index, size, server):
    """Replace the connection whenever it breaks."""
    while True:
        kernel.wait_for_death(index)
        say("the connection to %s:%d is gone; I/O waits for a new one" % server[:2], level=4)
        begun = time.monotonic()
        while not replace(kernel, index, persist(*server, size)[0]):
            time.sleep(LONGEST_PAUSE)
        say("connected again after %.1f s" % (time.monotonic() - begun), level=4)


def replace(kernel, index, link):
    """Hand a new connection to the kernel; return whether it took it."""
    try:
        kernel.ask(kernel.family, NBD_CMD_RECONFIGURE, reconfiguring(index, link))
    except OSError as error:
        say("the kernel does not take the new connection: %s" % error, level=3)
        return False
    finally:
        link.close()  # the kernel holds it, too
    return True


def main(address, port, name, index="0"):
    server = (address, int(port), name)
    link, size, flags = persist(*server)
    kernel = attach(int(index), link, size, flags)
    say("/dev/nbd%s is %s of %s:%s, %d bytes" % (index, name, address, port, size))
    link.close()
    ready, settled = os.pipe()
    if os.fork():
        os.close(settled)
        os._exit(0 if os.read(ready, 1) else 1)  # not before the other one is done with /proc, which moves on
    os.setsid()
    settle()
    os.write(settled, b"!")
    os.close(settled)
    keep(kernel, int(index), size, server)


if __name__ == "__main__":
    main(*sys.argv[1:])
