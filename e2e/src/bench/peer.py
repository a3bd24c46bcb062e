"""Runs no-op programs with HyperQueue and says what each took: its version, then microseconds of processor time."""

import resource
import sys
from importlib.metadata import version

from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig


def used() -> float:
    """Seconds of processor time: of server and worker, which are threads of this process, and of programs."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


count = int(sys.argv[1])
with LocalCluster() as cluster:
    # As many at the same time as an agent starts.
    cluster.start_worker(WorkerConfig(cores=8))
    client = cluster.client()
    before = used()
    job = Job()
    for _ in range(count):
        job.program(["/bin/true"])
    client.wait_for_jobs([client.submit(job)])
    print(f"FIGURE {version('hyperqueue')} {(used() - before) * 1e6 / count:.0f}")
