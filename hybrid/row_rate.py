"""The learning rate of a head's rows, as it was set and as a schedule has it."""

from workers.config import HeadConfig, changed


class RowRate:
    """Part of a head: `row_lr` may be set before any step; a `Trainer` schedules it without forgetting what was set."""

    config: HeadConfig
    peak_row_lr: float
    """`row_lr` as it was set last: what `save` keeps, and where schedules come from."""
    row_lr_factor: float = 1.0
    """Where a schedule is: what the rate is multiplied by just now."""

    @property
    def row_lr(self) -> float:
        """With which rows learn from the next call on; whoever sets it sets the peak, and ends a schedule.

        Raises:
            ConfigError: what is set is no number that the configuration would take.
        """
        return self.peak_row_lr if self.row_lr_factor == 1.0 else self.peak_row_lr * self.row_lr_factor

    @row_lr.setter
    def row_lr(self, rate: float) -> None:
        self.peak_row_lr, self.row_lr_factor = changed(self.config, {"row_lr": rate}).row_lr, 1.0
