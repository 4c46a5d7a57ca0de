"""Test cases for a vehicle's installation of a contract: messages that it must accept or refuse.

    catalogue.py   all cases, in order; selection by id or group
    case.py        a case: what it changes, what the module must do, and why
    groups/        the cases, one file a group: a row for each
    scene.py       the pieces of one case's messages, and the message of a change
    pki.py         the certificates around a vehicle, made from a seed
    derivations.py the wrong key derivations of the field
    seed.py        keys and bytes that a seed gives again and again
    difference.py  the difference between a message and its unchanged form
    files.py       the cases as files: messages, trust anchors and a manifest

    pki = CasePki(Seed(1), NOW)
    for case in catalogue.select("KT-*"):
        built = case.build(Scene(pki, vehicle_point, case.id, slot))

Only the vehicle's public provisioning key is needed. A new case is a row in its group's file.
"""
