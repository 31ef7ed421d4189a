"""The small data set and the run that training's tests use."""

from tests.train.conftest import dataset_card, make_run

__all__ = ["dataset_card", "make_run"]
