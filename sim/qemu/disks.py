"""The block nodes of a process, and whether it may write to them."""

from __future__ import annotations

from .contract import QmpMessage, Version
from .images import Images
from .machine import Machine, NodeSpec


class Disks:
    """Block nodes: active while this process may write to them, inactive while the other end may."""

    def __init__(self, machine: Machine, images: Images, pid: int, version: Version) -> None:
        """Open what the command line names, inactive: `activate` takes the locks."""
        self._nodes = list(machine.nodes)
        self._images = images
        self._pid = pid
        self._version = version
        self.active = False

    @property
    def nodes(self) -> tuple[NodeSpec, ...]:
        """All nodes, the newest first."""
        return tuple(self._nodes)

    @property
    def _files(self) -> list[str]:
        return sorted({node.file for node in self._nodes if node.driver == "file" and not node.read_only})

    @property
    def lock_line(self) -> str | None:
        """What standard error says of the file whose lock another process has."""
        file = self._images.held_by_other(self._pid, self._files)
        return None if file is None else f'Failed to get "write" lock\nIs another process using the image [{file}]?'

    def activate(self) -> None:
        """Take the locks.

        Raises:
            Refusal: another process has one of them; nothing is taken.
        """
        if not self.active:
            self._images.take(self._pid, self._files)
            self.active = True

    def inactivate(self) -> None:
        """Let the locks go: the other end may write from here on."""
        self._images.drop(self._pid)
        self.active = False

    def add(self, node: NodeSpec) -> None:
        """Open a node (``blockdev-add``)."""
        self._nodes.insert(0, node)

    def remove(self, name: str) -> bool:
        """Close a node; False: there is none of that name."""
        left = [node for node in self._nodes if node.name != name]
        found, self._nodes = len(left) < len(self._nodes), left
        return found

    @property
    def blockers(self) -> list[str]:
        """Why these nodes can't be migrated, in QEMU's words: formats without support for it."""
        if not self._nodes:
            return []
        unfit = ("vdi", "vmdk", "vhdx", "vpc", "cloop", "dmg", "bochs", "parallels", "vvfat")
        return [
            f"The {node.driver} format used by node '{node.name}' does not support live migration"
            for node in self._nodes
            if node.driver in unfit
        ]

    def describe(self) -> list[QmpMessage]:
        """The answer to ``query-named-block-nodes`` with ``flat``."""
        return [self._node(node) for node in self._nodes]

    def _node(self, node: NodeSpec) -> QmpMessage:
        size_bytes = 1 << 20
        answer: QmpMessage = {
            "iops_rd": 0,
            "detect_zeroes": "off",
            "image": {
                "virtual-size": size_bytes,
                "filename": node.file,
                "format": node.driver,
                "actual-size": size_bytes,
                "dirty-flag": False,
            },
            "iops_wr": 0,
            "ro": node.read_only,
            "node-name": node.name,
            "backing_file_depth": 0,
            "drv": node.driver,
            "iops": 0,
            "bps_wr": 0,
            "write_threshold": 0,
            "encrypted": False,
            "bps": 0,
            "bps_rd": 0,
            "cache": {"no-flush": False, "direct": False, "writeback": True},
            "file": node.file,
        }
        if self._version is not Version.V7_2:
            answer["active"] = self.active
        return answer

    def blocks(self, backends: dict[str, str]) -> list[QmpMessage]:
        """The answer to ``query-block``: what a guest's devices use.

        Args:
            backends: the QOM path of the device that uses a drive or node, by its name.
        """
        found: list[QmpMessage] = []
        for node in self._nodes:
            name = node.drive or node.name
            if name in backends:
                found.append(
                    {
                        "io-status": "ok",
                        "device": node.drive,
                        "locked": False,
                        "removable": False,
                        "inserted": self._node(node),
                        "qdev": backends[name],
                        "type": "unknown",
                    }
                )
        return found
