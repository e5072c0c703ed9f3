"""Before torch is imported anywhere: the models of these tests are so small that threads only wait for each
other, and on one thread their sums are the same on every machine."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
