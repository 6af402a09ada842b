"""One manager per guest on a host, for as long as it lives."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from whimbrel.engine.errors import WhimbrelError
from whimbrel.qmp_driver.processes import ProcessIdentity, identify_peer
from whimbrel.qmp_driver.sole import SoleManager

HOLD = """
import sys
from whimbrel.qmp_driver.processes import ProcessIdentity
from whimbrel.qmp_driver.sole import SoleManager
kept = SoleManager.of(ProcessIdentity(int(sys.argv[1]), int(sys.argv[2])))
print("held", flush=True)
sys.stdin.read()
"""


def test_the_second_is_refused_until_the_first_has_ended() -> None:
    """Its pid is named; another guest is free."""
    me = identify_peer(os.getpid())
    first = SoleManager.of(me)
    with pytest.raises(WhimbrelError, match=rf"another manager \(process {os.getpid()}\)"):
        SoleManager.of(me)
    SoleManager.of(ProcessIdentity(me.pid, me.start_ticks + 1)).close()
    first.close()
    first.close()
    SoleManager.of(me).close()


def test_it_goes_with_its_process() -> None:
    """However that dies: the kernel takes it back."""
    me = identify_peer(os.getpid())
    words = [sys.executable, "-c", HOLD, str(me.pid), str(me.start_ticks)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(WhimbrelError, match=f"process {holder.pid}"):
            SoleManager.of(me)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    SoleManager.of(me).close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_another_user_cannot_keep_us_from_our_guest() -> None:
    """Any user may bind any name; only who may touch the QEMU counts."""
    me = identify_peer(os.getpid())
    name = f"\0whimbrel-manages-{me.pid}-{me.start_ticks}"
    squat = "import os,socket,sys; os.setuid(65534); s=socket.socket(socket.AF_UNIX); "
    squat += f"s.bind({name!r}); s.listen(1); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", squat], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as squatter:
        assert squatter.stdout is not None
        assert squatter.stdout.readline() == b"held\n"
        SoleManager.of(me).close()
        squatter.kill()


def test_somebody_who_is_just_dying_is_not_in_the_way() -> None:
    """A name that is bound and not listened at says nothing of a manager."""
    me = identify_peer(os.getpid())
    with socket.socket(socket.AF_UNIX) as dying:
        dying.bind(f"\0whimbrel-manages-{me.pid}-{me.start_ticks}")
        SoleManager.of(me).close()
