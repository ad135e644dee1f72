"""hardquery from Python: run a job, plan one, open an output.

import hardquery as hq

hq.plan("demo", input="videos", output="out/mine").steps    # what a run would do and cost
job = hq.run("demo", input="videos", output="out/mine", limit=20, set={"curate.alpha1": -4})
out = hq.open("out/mine")
out.groups(stratum="hard_negative")[0]    # in a notebook: the query, its candidates, their frames
out.table("judgements").to_pandas()
"""

from hardquery.groups import Candidate, Group, Groups
from hardquery.jobs import Finished, demo, plan, run
from hardquery.output import Output, open

__all__ = ["Candidate", "Finished", "Group", "Groups", "Output", "demo", "open", "plan", "run"]
