"""What `advise` prints: the table, the one to take, why the others lost, what to type."""

from rich.table import Table

from pocketlm.advisor.advice import Advice
from pocketlm.advisor.wording import COLUMNS, headline, legend, losses, row, verdict, where_it_lies
from pocketlm.runtime_py.terminal import make_console


def print_advice(advice: Advice) -> None:
    """Print an advice on stdout."""
    console = make_console(soft_wrap=True)
    console.print(headline(advice))
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column(COLUMNS[0])
    for name in COLUMNS[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    for one in advice.measured:
        table.add_row(*row(one), style="bold" if one.status == "chosen" else None)
    console.print(table)
    console.print(legend(advice), style="dim")
    console.print(f"rule: {advice.rule}")
    console.print(verdict(advice), style="bold")
    for line in losses(advice):
        console.print(f"  {line}")
    for note in advice.notes:
        console.print(f"note: {note}")
    if advice.build_command is not None:
        console.print(advice.build_command)
        console.print(where_it_lies(advice))
