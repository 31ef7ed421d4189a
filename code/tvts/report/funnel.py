"""From URL to training window: what was lost where."""

from pathlib import Path

from tvts.config import UserError
from tvts.files import read_json
from tvts.report.style import COLOURS, GREY, figure


def draw_funnel(card: Path, output: Path) -> None:
    """One bar per stage of a dataset's card, as a share of the first stage counted in the same unit.

    Raises UserError without a card.
    """
    if not card.exists():
        raise UserError(f"{card}: no such dataset card; run `snakemake {card}`")
    stages = read_json(card)["funnel"]
    units = list(dict.fromkeys(stage["unit"] for stage in stages))
    first = {unit: next(stage["count"] for stage in stages if stage["unit"] == unit) for unit in units}
    with figure(output, 6.2, 0.42 * len(stages) + 0.5) as drawn:
        axes = drawn.subplots()
        for row, stage in enumerate(stages):
            share = stage["count"] / first[stage["unit"]] if first[stage["unit"]] else 0.0
            axes.barh(row, share, height=0.68, color=COLOURS[units.index(stage["unit"]) % len(COLOURS)])
            opening = stage["count"] == first[stage["unit"]] and stage is _opening(stages, stage["unit"])
            note = f"{stage['count']:,} {stage['unit']}" + ("" if opening else f"  ({share:.1%})")
            axes.text(share + 0.015, row, note, va="center", fontsize=8.5)
        axes.set_yticks(range(len(stages)), [stage["stage"] for stage in stages])
        axes.invert_yaxis()
        axes.set_xlim(0, 1.38)
        axes.xaxis.set_visible(False)
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
        axes.tick_params("y", length=0)
        axes.set_title(f"{card.parent.name}: share of the first stage in the same unit", loc="left", color=GREY)


def _opening(stages: list[dict[str, object]], unit: str) -> dict[str, object]:
    return next(stage for stage in stages if stage["unit"] == unit)
