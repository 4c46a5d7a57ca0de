"""The companies around the pools, each with its own credentials and its own keys.

| company | calls of the pools | background work and state |
|---|---|---|
| vehicle maker | `oem`, `regions` | `backend`: `fleet`, `work_queue`, `revocation`; `customer` |
| mobility operator | `mo` | `customers` |
| charge point operator | `cpo` | |

`client` calls OPCP over HTTP and `enrolment` EST. Events come by `events` and `follower`, or by
webhook to `receiver`; `state_file` stores the position in them. The companies check themselves
what they can check of a pool's answer.
"""
