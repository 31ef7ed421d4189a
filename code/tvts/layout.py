"""Where things lie under `results/`: the one place that knows, for code that walks finished work. Rules write the same paths out."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """Paths under a results folder."""

    root: Path = Path("results")

    def clips(self, corpus: str) -> Path:
        """Folder of a corpus' tars and indexes."""
        return self.root / "corpora" / corpus / "clips"

    def transcripts(self, corpus: str) -> Path:
        """Folder of a corpus' transcripts."""
        return self.root / "corpora" / corpus / "transcripts"

    def dataset_card(self, dataset: str) -> Path:
        """A dataset's card."""
        return self.root / "datasets" / dataset / "card.json"

    def run(self, run: str) -> Path:
        """Folder of a run: config.json, model/, card.json, training/."""
        return self.root / "runs" / run

    def metrics(self, run: str) -> Path:
        """A run's metrics file."""
        return self.run(run) / "training" / "metrics.jsonl"

    def score(self, run: str, subject: str, protocol: str) -> Path:
        """The metrics of a run on a benchmark or dataset under a protocol."""
        return self.root / "scores" / run / f"{subject}.{protocol}.json"

    @property
    def report(self) -> Path:
        """Folder of tables and figures."""
        return self.root / "report"
