"""The companies around the pools, each with its own credentials and its own keys.

| who | calls of the pools | what runs by itself, what it remembers |
|---|---|---|
| vehicle maker | `oem`, `regions` | `backend`: `fleet`, `work_queue`, `revocation`; `customer` |
| mobility operator | `mo` | `customers` |
| charge point operator | `cpo` | |

`client` calls OPCP over HTTP and `enrolment` EST; events come by `events` and `follower`, or by
webhook to `receiver`. They trust nothing a pool says that they can check themselves.
"""
