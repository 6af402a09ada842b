"""The protocol and the decisions of a live migration: pure, without I/O, clock or randomness.

| module | what it is |
|---|---|
| `states`, `signals` | the words: phases, the ownership token, facts; what can happen and what can be asked for |
| `rules`, `tables` | the protocol: phase × signal → phase, command, token |
| `protocol` | the step over the tables |
| `resolve` | what to make of two QEMUs when an outcome is unknown |
| `statistics`, `link` | what QEMU's figures tell: iterations, rates, goodput, the pipe |
| `measuring`, `deltas` | what a guest tells that is measured before it is moved |
| `policy`, `policies/`, `pilot` | what a policy sees and decides, the ones that come along, and their clamping |
| `timeline`, `report` | the itemised outage, the finished report |
| `machine` | all of it together, driven by events and the time |
| `side_words`, `sampling`, `negotiation` | QEMU's words, figures and settings, in ours |
| `driving` | when every driver looks, and how long it waits |
| `diagram` | draws docs/protocol.md from the tables |
| `errors` | the error tree of the whole project |
"""
