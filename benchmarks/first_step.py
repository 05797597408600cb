"""One training from the birth of its process to its first step: `python -m benchmarks.first_step NUM_TAGS DIM WORKERS`.

Prints a JSON object: seconds at which each stage had ended.
"""

import json
import sys

from launch.start_up import process_age_s

BATCH, _PIXELS = 128, 3 * 32 * 32


def main() -> None:
    """Train one step as the README's loop does, on noise."""
    num_tags, dim, workers = map(int, sys.argv[1:])
    import torch  # late: the import is a stage

    from hybrid.head import WideHead

    ended_s = {"imports": process_age_s()}
    trunk = torch.nn.Linear(_PIXELS, dim)
    with WideHead(num_tags, dim, workers) as head:
        ended_s["workers"] = process_age_s()
        optimizer = torch.optim.AdamW(trunk.parameters())
        ended_s["optimizer"] = process_age_s()
        loss = head(trunk(torch.randn(BATCH, _PIXELS)), [[b, num_tags - 1 - b] for b in range(BATCH)])
        loss.backward()
        optimizer.step()
        ended_s["first step"] = process_age_s()
    print(json.dumps(ended_s))


if __name__ == "__main__":
    main()
