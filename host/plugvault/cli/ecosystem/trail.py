"""`plugvault ecosystem audit` and `jobs`: the audit trail, and long work."""

from typing import Annotated

import typer

from plugvault.cli.ecosystem import common
from plugvault.pools import audit as pool


def audit(
    context: typer.Context,
    since: Annotated[int, typer.Option(help="List entries after this sequence number.")] = 0,
    limit: Annotated[int, common.Limit] = 50,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check that the trail is unchanged.")
    ] = False,
    head: Annotated[
        str, typer.Option(help="With --verify: an earlier digest, which must be in the trail.")
    ] = "",
) -> None:
    """List the entries of the audit trail, oldest first.

    --verify exits with 1 when an entry was changed, or when the end is missing.
    """
    with common.reading(context) as records:
        if verify:
            verdict = pool.verify(records, head)
        else:
            rows = [
                {**vars(entry), "at": common.moment(entry.at)}
                for entry in records.audit.since(since, limit)
            ]
    if not verify:
        common.print_rows(context, rows, "sequence", "at", "who", "action", "subject", "detail")
        return
    common.print_members(
        context, {**vars(verdict), "whole": verdict.broken is None and not verdict.cut}
    )
    raise typer.Exit(0 if verdict.broken is None and not verdict.cut else 1)


def jobs(context: typer.Context) -> None:
    """List the long work that the workers do in small steps."""
    with common.reading(context) as records:
        rows = [
            {
                "job": job.job_id,
                "kind": job.kind,
                "subject": job.subject,
                "state": job.state,
                "done": job.done,
                "asked": common.moment(job.asked),
                "asked_by": job.asked_by,
            }
            for job in records.jobs.all()
        ]
    common.print_rows(
        context, rows, "state", "kind", "subject", "done", "asked", "job", none="no jobs"
    )
