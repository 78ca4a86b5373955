"""`sab-agents envs`: the environments, what is known of them, and what each tests."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

from gymnasium import Space, spaces
from rich.table import Table

from sab_agents.checks import did_you_mean
from sab_agents.envs.dynamics import Dynamics, Returns
from sab_agents.envs.registration import DELAYED, ENVIRONMENTS, SUPERVISED, Registered
from sab_agents.train.commands.arguments import Parser
from sab_agents.train.errors import UserError
from sab_agents.train.output import terminal

WIDTH = 150  # columns if the output is no terminal
ROOMY = 120  # columns from which a terminal shows all


@dataclass(frozen=True)
class Facts:
    """An entry of the list.

    Attributes:
        dynamics: with its registered settings.
        returns: what is known of them; the memoryless one is None while its data is missing.
        lacking: why the data is missing, or None.
    """

    dynamics: Dynamics
    returns: Returns
    lacking: str | None


def command(arguments: Sequence[str]) -> int:
    """Prints the list, or the documentation of the ids that are named."""
    parser = Parser("envs", "List the environments; with ids, say all about each.")
    parser.add_argument("ids", nargs="*", metavar="ID", help="say all about these; default: list all")
    parsed = parser.parse(arguments)
    console = terminal(WIDTH)
    for env_id in parsed.ids:
        if env_id not in ENVIRONMENTS:
            raise UserError(f"there is no environment '{env_id}'. {did_you_mean(env_id, ENVIRONMENTS)}")
    if parsed.ids:
        for env_id in parsed.ids:
            console.print(f"[bold]{env_id}[/bold]")
            console.print(inspect.getdoc(type(ENVIRONMENTS[env_id].dynamics())), markup=False, highlight=False)
            console.print()
        return 0
    console.print(listing(whole=console.width >= ROOMY))
    console.print("[dim]Returns are those of a whole episode. Best and memoryless: of the best policy with and")
    console.print("[dim]without a memory. A length is that of the registered settings; others are arguments.")
    console.print("[dim]`sab-agents envs ID` says how each is derived.")
    return 0


def listing(*, whole: bool = True) -> Table:
    """Returns the table of all environments, those of delayed reward first; `whole` has spaces and random returns."""
    table = Table(title="Environments: gymnasium.make(id), gymnasium.make_vec(id, num_envs=n)", title_justify="left")
    table.add_column("id", style="bold", no_wrap=True)
    if whole:
        table.add_column("observation", no_wrap=True)
        table.add_column("action", no_wrap=True)
    policies = ("best", "random", "memoryless") if whole else ("best", "memoryless")
    for heading in ("steps", *policies):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("what it tests")
    for group in (DELAYED, SUPERVISED):
        for known in group:
            facts = facts_of(known)
            dynamics, returns = facts.dynamics, facts.returns
            steps = "endless" if dynamics.horizon is None else str(dynamics.horizon)
            numbers = [_number(getattr(returns, policy)) for policy in policies]
            tests = dynamics.purpose + (f" [dim]({facts.lacking})[/dim]" if facts.lacking else "")
            named = (space_name(dynamics.observation_space), space_name(dynamics.action_space))
            spaces_of = named if whole else ()
            table.add_row(known.id, *spaces_of, steps, *numbers, tests)
        table.add_section()
    return table


def facts_of(known: Registered) -> Facts:
    """Returns what is known of an environment without downloading anything."""
    dynamics = known.dynamics()
    lacking = None
    try:
        if getattr(dynamics, "at_hand", True):
            return Facts(dynamics, dynamics.returns, None)
        lacking = "data by SAB_DATA_DIR or download"
    except ImportError:
        lacking = "needs pip install sab-agents\\[digits]"
    except (OSError, ValueError):
        lacking = "its data is not in SAB_DATA_DIR"
    return Facts(dynamics, dynamics.returns_without_data, lacking)  # type: ignore[attr-defined]


def space_name(space: Space[object]) -> str:
    """Returns a space in a word: Box(2), Box(4, 4), Discrete(3)."""
    if isinstance(space, spaces.Box):
        return f"Box({', '.join(str(size) for size in space.shape)})"
    return f"Discrete({space.n})" if isinstance(space, spaces.Discrete) else str(space)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) < 1000 else f"{value:.0f}"
