"""Settings of the whole suite."""

import torch

torch.set_num_threads(1)  # Tiny models: a second thread costs more than it gives.
