"""Groups of options: typer sees every option alone, a command gets whole groups."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Any, get_args, get_type_hints

Command = Callable[..., None]


class Without:
    """Names options of a group that a command does not have: they keep their defaults.

    Args:
        names: fields of the group.
    """

    def __init__(self, *names: str) -> None:
        self.names = names


def takes_groups(command: Command) -> Command:
    """Give a command the options of its groups one by one where typer looks, and hand them over as groups.

    A group is a dataclass whose fields are annotated as options; they stand where the group stands.

    Args:
        command: all of whose parameters can be given by name.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, tuple[type, tuple[str, ...]]] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        members = _members(hints[parameter.name])
        if members is None:
            parameters.append(parameter.replace(annotation=hints[parameter.name], kind=parameter.KEYWORD_ONLY))
        else:
            group, options = members
            groups[parameter.name] = group, tuple(option.name for option in options)
            parameters += options

    @wraps(command)
    def flat(**values: Any) -> None:
        given = {name: group(**{one: values.pop(one) for one in options}) for name, (group, options) in groups.items()}
        command(**values, **given)

    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # what typer reads
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return flat


def _members(hint: Any) -> tuple[type, list[inspect.Parameter]] | None:
    """Return a group with its options as parameters; None for a parameter that is no group."""
    group, *remarks = get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
    if not isinstance(group, type) or not is_dataclass(group):
        return None
    left_out = {name for remark in remarks if isinstance(remark, Without) for name in remark.names}
    hints = get_type_hints(group, include_extras=True)
    kind = inspect.Parameter.KEYWORD_ONLY
    return group, [
        inspect.Parameter(field.name, kind, default=field.default, annotation=hints[field.name])
        for field in fields(group)
        if field.name not in left_out
    ]


def in_order(*names: str) -> Callable[[Command], Command]:
    """Let options of a command share out the places that they take in --help, in another order.

    Args:
        names: the options, in the order wanted.
    """

    def arrange(command: Command) -> Command:
        signature = inspect.signature(command)
        known = signature.parameters
        wanted = iter(names)
        arranged = [known[next(wanted)] if name in names else one for name, one in known.items()]
        command.__signature__ = signature.replace(parameters=arranged)  # type: ignore[attr-defined] # what typer reads
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in arranged}
        return command

    return arrange
