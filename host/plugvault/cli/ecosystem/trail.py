"""`plugvault ecosystem audit` and `jobs`: what people decided, and long work."""

from typing import Annotated

import typer

from plugvault.cli.ecosystem.common import moment, print_members, print_rows, reading
from plugvault.pools import audit as pool


def audit(
    context: typer.Context,
    since: Annotated[int, typer.Option(help="Only after this sequence number.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check that nobody has edited the trail.")
    ] = False,
    head: Annotated[
        str, typer.Option(help="With --verify: a digest noted earlier, which must be in it.")
    ] = "",
) -> None:
    """Who did what to what, when: the earliest first.

    --verify exits with 1 when a line is not what was written, or the end is gone.
    """
    with reading(context) as records:
        if verify:
            verdict = pool.verify(records, head)
        else:
            found = [
                {**vars(entry), "at": moment(entry.at)}
                for entry in records.audit.since(since, limit)
            ]
    if not verify:
        print_rows(context, found, "sequence", "at", "who", "action", "subject", "detail")
        return
    print_members(context, {**vars(verdict), "whole": verdict.broken is None and not verdict.cut})
    raise typer.Exit(0 if verdict.broken is None and not verdict.cut else 1)


def jobs(context: typer.Context) -> None:
    """Long work that the workers do in small steps."""
    with reading(context) as records:
        found = [
            {
                "job": job.job_id,
                "kind": job.kind,
                "subject": job.subject,
                "state": job.state,
                "done": job.done,
                "asked": moment(job.asked),
                "asked_by": job.asked_by,
            }
            for job in records.jobs.all()
        ]
    print_rows(context, found, "state", "kind", "subject", "done", "asked", "job", none="no jobs")
