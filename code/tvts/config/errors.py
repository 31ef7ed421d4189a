"""Errors for people: one line that says what, where, what was expected and what to do."""

import contextlib
import difflib
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError


class UserError(Exception):
    """Something the user can put right. The command line prints its message alone, in one line, without a traceback."""


@contextlib.contextmanager
def for_people() -> Iterator[None]:
    """Turn the ValueErrors of `tvts.model`, which knows nothing of this package, into UserErrors."""
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from error


def explain(error: ValidationError, prefix: str, allowed_keys: Any = None) -> list[str]:
    """One line per problem in `error`: key path, the value given, what is allowed.

    `prefix` is the path of the validated section; `allowed_keys(path)` lists the keys known at a path, for suggestions.
    """
    return [_explain_one(problem, prefix, allowed_keys) for problem in error.errors()]


def _explain_one(problem: Any, prefix: str, allowed_keys: Any) -> str:
    path = ".".join([prefix, *map(str, problem["loc"])]).strip(".")
    given, kind = problem["input"], problem["type"]
    if kind == "extra_forbidden":
        known = sorted(allowed_keys(problem["loc"][:-1])) if allowed_keys else []
        close = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"allowed: {', '.join(known)}"
        return f"{path}: unknown key; {hint}"
    if kind == "missing":
        return f"{path}: required, but not given"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ").strip()
    if isinstance(given, str) and kind in ("float_type", "int_type") and _is_number(given):
        message += f"; YAML reads {given} as text, write it with a dot: {float(given):.1e}"
    whole_section = kind == "value_error" and isinstance(given, dict)
    return f"{path}: {message}" if whole_section else f"{path}: got {given!r}; {message}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
