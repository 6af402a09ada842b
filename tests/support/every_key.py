"""A scenario file that has every key, and the scenario that it means."""

from __future__ import annotations

from whimbrel.engine.policy import Objectives
from whimbrel.sim.qemu.contract import Costs, Version
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Pattern, QemuPlan, Scenario, Writer

MIB = 1 << 20
PAGE = 4096

EVERYTHING = """\
seed = 7
policy = "fixed:downtime_limit=50ms"
migrations = 2
limit = "30m"
postcopy = "20s"
faults = true

[guest]
ram = "2GiB"
zero = "512MiB"
vcpus = 2
pages = true

[[guest.writer]]
name = "hot"
size = "64MiB"
rate = "40MiB/s"
pattern = "zipf"
skew = 1.1
period = "2s"
duty = "25%"
shift = "500ms"
delta = "512B"
ratio = 0.5
vcpu = 1
cpu_share = "30%"

[[guest.writer]]
name = "disk"
size = 1048576
writes = 100
pattern = "hotspot"
share = "90%"
part = "10%"
zero = true
dma = true

[link]
bandwidth = "2Gbit/s"
latency = "1ms"
pipe = "2MiB"
noise = "5%"
noise_every = "50ms"
noise_memory = 0.9
rivals = 1
steps = [{ at = "10s", bandwidth = "500Mbit/s" }, { at = "20s", bandwidth = "1Gbit/s" }]
outages = [
  { at = "5s", for = "2s" },
]

[qemu]
source = "7.2"
destination = "11.1"
accelerator = "kvm"
local = false
capabilities = ["xbzrle", "multifd"]

[qemu.costs]
cpu = "2GB/s"
zero_page = "0.5us"
sync = "1ms"
sync_per_page = "5ns"
sync_per_dirty_page = "3ns"
stop = "1ms"
device_state = "1MB"
load = "5ms"
resume = "2ms"
setup = "10ms"
start_stall = "20ms"

[objectives]
downtime = "100ms"
deadline = "2m"
bandwidth = "800Mbit/s"
throttle = "50%"
may_abort = true
may_pause = true
may_postcopy = true
abort_on_fault = true
"""

SCENARIO = Scenario(
    guest=GuestPlan(
        ram_bytes=2048 * MIB,
        zero_bytes=512 * MIB,
        vcpus=2,
        pages=True,
        writers=(
            Writer(
                name="hot",
                size_bytes=64 * MIB,
                rate_bytes_per_s=40.0 * MIB,
                pattern=Pattern.ZIPF,
                skew=1.1,
                period_s=2.0,
                duty=0.25,
                shift_s=0.5,
                delta_bytes=512,
                compressed_ratio=0.5,
                vcpu=1,
                cpu_share=0.3,
            ),
            Writer(
                name="disk",
                size_bytes=MIB,
                rate_bytes_per_s=100.0 * PAGE,
                pattern=Pattern.HOTSPOT,
                share=0.9,
                part=0.1,
                zero=True,
                vcpu=None,
            ),
        ),
    ),
    link=LinkPlan(
        bandwidth_bytes_per_s=250e6,
        latency_s=0.001,
        pipe_bytes=2 * MIB,
        noise=0.05,
        noise_every_s=0.05,
        noise_memory=0.9,
        rivals=1,
        steps=((10.0, 62.5e6), (20.0, 125e6)),
        outages=((5.0, 2.0),),
    ),
    qemu=QemuPlan(
        source=Version.V7_2,
        destination=Version.V11_1,
        kvm=True,
        local=False,
        costs=Costs(
            cpu_bytes_per_s=2e9,
            zero_page_s=0.5e-6,
            sync_s=0.001,
            sync_s_per_page=5e-9,
            sync_s_per_dirty_page=3e-9,
            stop_s=0.001,
            device_state_bytes=1_000_000,
            load_s=0.005,
            resume_s=0.002,
            setup_s=0.01,
            start_stall_s=0.02,
        ),
    ),
    objectives=Objectives(
        downtime_s=0.1,
        deadline_s=120.0,
        bandwidth_bytes_per_s=100_000_000,
        greatest_throttle=0.5,
        may_abort=True,
        may_pause=True,
        may_postcopy=True,
        abort_on_fault=True,
    ),
    policy="fixed:downtime_limit=50ms",
    migrations=2,
    limit_s=1800.0,
    postcopy_at_s=20.0,
    capabilities=("xbzrle", "multifd"),
    faults=True,
)
