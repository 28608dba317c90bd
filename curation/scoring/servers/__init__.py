"""Model servers started for a run, watched, restarted, and gone when it ends.

    with served(scorers, logs="run/logs", answers="run/answers/web") as connected:
        score("run/shards/web", "run/scores/web", connected)

`supervise.py` keeps one server alive, `replica.py` is the actor that owns it, `run.py` gives scorers their servers.
"""

from mmcorpus.curation.scoring.servers.run import served

__all__ = ["served"]
