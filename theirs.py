import sys
from pathlib import Path
from tests.benchmarks.searches.store import run, save, load
from tests.benchmarks.searches.outcomes import DRAWS
from tests.benchmarks.searches.compare import EPOCHS
if __name__ == "__main__":
    arms = sys.argv[2].split(",")
    file = Path(sys.argv[1])
    for seed in map(int, sys.argv[3].split(",")):
        for arm in arms:
            if any((s.arm, s.seed) == (arm, seed) for s in load(file)):
                continue
            s = run(arm, seed, EPOCHS, DRAWS)
            save(s, file)
            print(arm, seed, s.best(EPOCHS), flush=True)
