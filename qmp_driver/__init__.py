"""QEMU: processes, monitors, preparation, and the asyncio part that carries out the engine's commands.

| module | what it is |
|---|---|
| `sockets`, `client`, `monitor`, `replies`, `schema` | one QMP connection; typed answers; what a binary knows |
| `processes`, `launch`, `probe` | starting, watching and ending QEMUs; asking a binary what it has |
| `option_text`, `argument_*`, `arguments` | a source's command line, made into a destination's |
| `facts`, `truth`, `compare`, `findings`, `preflight` | what a QEMU says of itself; what speaks against a move |
| `destination` | the four ways to come by a destination |
| `options` | what a caller can say |
| `helm`, `measuring`, `source_cpus`, `vcpus` | what becomes of a policy's decisions; the source's vCPUs |
| `survey`, `peeking`, `peeking_places`, `zero_pages`, `link_probe` | a guest and its link, measured for a plan |
| `outside`, `outside_means`, `outside_hold` | the throttle from outside of QEMU: wanted, found out about, held |
| `side`, `procedures`, `runner` | one side's words; what each command means in QMP; the pump |
| `journal`, `control` | the log; the socket beside it |
"""
