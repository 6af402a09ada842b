"""What this host can do."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import threading
from importlib import metadata
from pathlib import Path

from whimbrel.engine._version import __version__
from whimbrel.engine.errors import BadInput
from whimbrel.guest.boot import image_path
from whimbrel.qmp_driver.journal import default_directory
from whimbrel.qmp_driver.outside_means import NoMeans, find
from whimbrel.qmp_driver.probe import probe_binary
from whimbrel.qmp_driver.vcpus import find_threads

PROBE_TIMEOUT_S = 10.0

BINARIES = ("qemu-system-x86_64",)


async def examine() -> dict[str, str]:
    """Look, without changing anything; one line of text per thing."""
    found = {
        "whimbrel": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
    }
    for name in ("qemu.qmp", "uvloop", "msgspec"):
        found[name] = metadata.version(name)
    for name in BINARIES:
        found[name] = await binary(name)
    found["/dev/kvm"] = _device(Path("/dev/kvm"), "QEMU will run guests under TCG, slowly")
    found["userfaultfd"] = _userfaultfd()
    found["outside throttle"] = await _outside_throttle()
    found["workload guest"] = f"{image_path().stat().st_size} bytes"
    found["logs"] = str(default_directory())
    found["tc, ip"] = "found" if shutil.which("tc") and shutil.which("ip") else "missing (needed by benchmarks only)"
    return found


async def binary(name: str, *, timeout_s: float = PROBE_TIMEOUT_S) -> str:
    """Where a QEMU is and what it says of its version, or what is wrong with it, as one line."""
    path = shutil.which(name)
    if path is None:
        return "missing (apt-get install qemu-system-x86)"
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            path, "--version", stdin=nothing, stdout=pipe, stderr=asyncio.subprocess.STDOUT
        )
    except OSError as error:
        return f"{path}: cannot be run ({error.strerror})"
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate()
    except TimeoutError:
        return f"{path}: does not answer"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return f"{path}: {output.decode(errors='replace').partition(chr(10))[0]}"


async def check_qemu(field: str, name: str, machine: str | None = None) -> None:
    """See that a binary is a QEMU and knows a machine type, before it is waited for.

    Args:
        field: the option that names it, for the error.
        name: a path, or a name that is looked up.
        machine: as the user wrote it; ``None``: any.

    Raises:
        BadInput: it is missing or no QEMU, or does not know the type.
    """
    facts = await probe_binary((name,))
    if facts.problem is not None:
        raise BadInput(field, name, "a QEMU that can be run, such as qemu-system-x86_64")
    # Options may follow the type, behind a comma.
    if machine is not None and machine.partition(",")[0] not in facts.machines:
        plain = sorted(each for each in facts.machines if "-" not in each)
        raise BadInput("machine", machine, f"a machine type that {name} knows, such as {', '.join(plain)}")


def _device(path: Path, without: str) -> str:
    if not path.exists():
        return f"missing: {without}"
    if not os.access(path, os.R_OK | os.W_OK):
        return f"no permission: {without}"
    return "can be opened (whether it runs guests well is another matter)"


def _userfaultfd() -> str:
    setting = Path("/proc/sys/vm/unprivileged_userfaultfd")
    if os.geteuid() == 0:
        return "usable (root)"
    try:
        return "usable" if setting.read_text().strip() == "1" else "for root only: no post-copy"
    except OSError:
        return "missing: no post-copy"


async def _outside_throttle() -> str:
    """Tried on a thread of our own, which sleeps, and undone."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait, daemon=True)
    thread.start()
    try:
        hold = await find(find_threads(os.getpid(), (thread.native_id or 0,)), lambda _: None)
    except NoMeans as error:
        return f"not here: {error.message}"
    finally:
        over.set()
        thread.join()
    return f"by {hold.means}, for guests of this host that we may touch"
