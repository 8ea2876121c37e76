"""The list of commands, and the exit status of each.

A command's module is imported when the command is called, so that `--help` and mistyped commands answer at once. A command
may be a group: then its module has a Typer app instead of a function.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from cli.errors import INTERRUPTED, CommandFailed, Interrupted, RequestRefused
from cli.output import Output
from gpt_image_runs.observability.tracing import end_tracing

DONE, FAILED = 0, 1
_TRACES_PATIENCE_SECONDS = 2.0
_PROGRAM = "starter.py"
_HELP = """Generate images with OpenAI's GPT Image models: durable on Temporal, with a bill for every run.

Exit status: 0 done, 1 the run failed or something it needs is missing, 2 the request is refused.
Every command takes --json: one JSON document on stdout, everything else on stderr."""


class Command(NamedTuple):
    """Where a command's function or Typer app is (below `cli`), and its line in the help."""

    module: str
    help: str


COMMANDS: dict[str, Command] = {
    "demo": Command("local.demo", "Make three images and show their bills, to see that everything works."),
    "up": Command(
        "local.up",
        "Run Temporal, its Web UI, the worker and (without a key) the provider simulator, until Ctrl-C.",
    ),
    "doctor": Command(
        "local.doctor", "Check what is reachable, and show what is missing and what to do about it."
    ),
    "generate": Command("runs.submit", "Generate images from a prompt."),
    "edit": Command("runs.submit", "Edit images by a prompt, with or without a mask."),
    "submit": Command("runs.submit", "Start the run of a request in JSON."),
    "quote": Command("runs.quote", "Show what a request would cost, without starting it."),
    "batch": Command("batches.commands", "Run many requests from a file: progress, cost, retries, results."),
    "upload": Command("runs.images", "Store an image and print its reference."),
    "show": Command("runs.show", "Show the current state of a run."),
    "wait": Command("runs.show", "Wait for a run and show its result."),
    "decide": Command("runs.decide", "Decide about a held run: resend its request, or give it up."),
    "images": Command("runs.images", "Copy a run's images out of the image store."),
    "links": Command("runs.images", "Make links to a run's images."),
    "ledger": Command("ledger.entries", "List the ledger's entries, newest first."),
    "costs": Command("ledger.entries", "Sum up the ledger by tenant, model or day."),
    "report": Command(
        "report.report", "Write a month for finance: a page with plots, and a table for a spreadsheet."
    ),
    "runs": Command("runs.list", "List the runs that Temporal knows, newest first."),
    "budget": Command("ledger.budgets", "Set and show what tenants may spend."),
    "pending": Command("ledger.open_items", "List the runs whose bill is not final, oldest first."),
    "reconcile": Command(
        "ledger.corrections", "Settle runs with the usage that the provider has reported since."
    ),
    "reprice": Command("ledger.corrections", "Bill usage that had no price before."),
    "reverse": Command("ledger.corrections", "Reverse everything that was billed for a run."),
    "exposure": Command(
        "ledger.open_items", "List requests that may have been charged without returning an image."
    ),
    "verify": Command("ledger.verify", "Check the ledger's hash chains, every amount and every image."),
    "recover": Command(
        "recover.commands",
        "Recover a run from its stored response, or a ledger that was restored from an older copy.",
    ),
    "reconcile-provider": Command(
        "ledger.reconcile_provider", "Compare a day with the provider's own books, once or every day."
    ),
    "replay": Command(
        "local.replay", "Replay histories on the workflows of this code, before it is deployed."
    ),
    "models": Command("local.models", "List the models: lifecycle, sizes, qualities and prices."),
}


class _LazyGroup(TyperGroup):
    """Has the name and the help of each command, and imports a command when it is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name else command, rest


def load_command(name: str) -> Any:
    """Load the command `name`: the function or Typer app of that name, with underscores for hyphens."""
    found = getattr(import_module(f"cli.{COMMANDS[name].module}"), name.replace("-", "_"))
    if isinstance(found, typer.Typer):
        return typer.main.get_command(found)
    loader = typer.Typer(add_completion=False)
    loader.command(name)(found)
    return typer.main.get_command(loader)


def main(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit status. Every failure is printed as a sentence, never as a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without our signs shows a question mark
    output = Output(as_json="--json" in arguments)
    try:
        status = _carry_out(arguments, output)
        if not end_tracing(_TRACES_PATIENCE_SECONDS):
            output.warn("The trace of this command did not reach OTEL_EXPORTER_OTLP_ENDPOINT.")
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # Rich and Typer leave where whoever read our output has left
        return FAILED
    except KeyboardInterrupt:
        return output.fail(Interrupted())
    except OSError as error:
        with suppress(OSError):
            output.say(f"✗ The output cannot be written: {error.strerror}.", style="bold red")
        return FAILED
    return status


def _carry_out(arguments: Sequence[str], output: Output) -> int:
    stubs = [TyperCommand(name, help=command.help) for name, command in COMMANDS.items()]
    group = _LazyGroup(name=_PROGRAM, help=_HELP, commands=stubs)
    try:
        status = group.main(list(arguments) or ["--help"], prog_name=_PROGRAM, standalone_mode=False)
    except typer.TyperException as error:
        return output.fail(RequestRefused(_describe_usage(error)))
    except CommandFailed as error:
        return output.fail(error)
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - the front door: what nobody expected still ends as a sentence
        return output.fail(import_module("cli.error_messages").explain(error))
    if status == INTERRUPTED:  # Typer's word for Ctrl-C that no command took
        return output.fail(Interrupted())
    return status if isinstance(status, int) else DONE


def _describe_usage(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else _PROGRAM
    message = error.format_message().replace("Value error, ", "")
    return f"{message}{'' if message.endswith(('.', '?')) else '.'} See `python {command} --help`."
