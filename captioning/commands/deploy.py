"""`deploy`: a Space brought to what a Spacefile says."""

from __future__ import annotations

import argparse
from pathlib import Path

from captioning.commands.shared import Subparsers, add_json, print_json, print_progress, wants_json


def add(commands: Subparsers) -> None:
    """Add the command and its flags."""
    deploy = commands.add_parser("deploy", help="bring a Hugging Face Space to what a Spacefile says")
    deploy.add_argument("--file", type=Path, default=Path("Spacefile"), help="the description (default: Spacefile)")
    deploy.add_argument("--dry-run", action="store_true", help="only show what would change")
    deploy.add_argument("--renew-secrets", action="store_true", help="also set again the secrets that are there")
    add_json(deploy)
    deploy.set_defaults(run=_deploy)


def _deploy(options: argparse.Namespace) -> int:
    import os

    from captioning.deploy.command import deploy

    done = deploy(
        options.file,
        os.environ,
        dry_run=options.dry_run,
        renew_secrets=options.renew_secrets,
        report=print_progress,
    )
    if wants_json(options):
        print_json(done.as_document())
        return 0
    if not done.changes:
        print(f"Nothing to do: {done.url} is as {options.file} says.")
        return 0
    if options.dry_run:
        print("\n".join(map(str, done.changes)))
        if not done.compared:
            print(
                "There is no Hugging Face token here, so nothing could be compared with what is deployed: this is what "
                "a new Space would get. Run `hf auth login`, or set HF_TOKEN, to see the difference."
            )
        print(f"{len(done.changes)} changes to {done.url}; nothing was changed.")
    else:
        print(f"{done.url} is now as {options.file} says; the hub builds it within minutes.")
    return 0
