"""What a protocol returns, before it is written as a score file."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Result:
    """Metrics in percent (ranks: from 1) by flat name, their 95 % intervals and chance levels, the policy they
    follow, and details.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, list[float]] = field(default_factory=dict)
    chance: dict[str, float] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
