"""Forecasts of real series by a convolution in one dimension, against the value of a season ago."""

import numpy as np
import pytest

from cnnpy import data, nn, optim, train
from cnnpy import functional as F


class Forecaster(nn.Module):
    """A linear model of the last values, and what two convolutions find beside it."""

    def __init__(self, length, width=16):
        super().__init__()
        self.linear = nn.Linear(length, 1, rng=0)
        self.convolutions = nn.Sequential(
            *(nn.Conv1d(1, width, 5, padding=2, rng=1), nn.ReLU(), nn.Conv1d(width, width, 5, padding=2, rng=2), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(width * length, 1, rng=3)),
        )

    def forward(self, x):
        return self.convolutions(x) + self.linear(x.reshape((x.shape[0], x.shape[2])))


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "season", "length", "logarithm", "epochs"),
    [("airline-passengers.csv", 12, 24, True, 100), ("daily-min-temperatures.csv", 365, 60, False, 20)],
)
def test_beats_the_value_of_a_season_ago(name, season, length, logarithm, epochs, shared):
    """Trained on the first 70 %, judged by the mean absolute error of the next value in the rest; scaled by what the first part shows."""
    values = data.series(shared / "series" / name)
    known = int(0.7 * len(values))
    z = np.log(values) if logarithm else values
    mean, deviation = z[:known].mean(), z[:known].std()
    x, y = data.windows(((z - mean) / deviation).astype(np.float32), length)
    at = np.arange(length, len(values))
    past = at < known
    x, y = x[:, None], y[:, None]
    model = Forecaster(length)
    optimizer = optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    train.fit(
        model, (x[past], y[past]), optimizer=optimizer, epochs=epochs, batch_size=32, loss=F.mse_loss, metrics=("mae",), progress=False
    )
    forecast = train.predict(model, x[~past])[:, 0] * deviation + mean
    forecast = np.exp(forecast) if logarithm else forecast
    truth = values[at[~past]]
    error, naive = np.abs(forecast - truth).mean(), np.abs(values[at[~past] - season] - truth).mean()
    print(f"{name}: mean absolute error {error:.2f}, a season ago {naive:.2f}")
    assert error < naive
