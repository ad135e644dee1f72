"""Whether what a panel of further judges said is heeded: no label without the votes that the rules ask for."""

from __future__ import annotations

from pipeline.outputs.tables import Row
from pipeline.outputs.verify.records import judgement_of
from schemas.example import POSITIVES
from schemas.query import Label
from transforms.curate.curate_query import CurateRules


def is_confirmed(row: Row, rules: CurateRules) -> bool:
    """Whether a panel's word makes a positive of a judged pair that is suspected to be one."""
    if rules.positives != "confirmed" or rules.panel is None:
        return False
    judgement = judgement_of(row)
    return judgement is not None and rules.panel.stands(judgement, "yes")


def unheeded_panel(row: Row, rules: CurateRules) -> str:
    """What is wrong with a judged pair that was kept although too few judges agree; "" where all is well."""
    if rules.panel is None or not row["kept"]:
        return ""
    judgement = judgement_of(row)
    label: Label = "yes" if row["stratum"] in POSITIVES else "no"
    if judgement is None or rules.panel.stands(judgement, label):
        return ""
    votes = rules.panel.votes(judgement, label)
    return f"it was kept, and {votes} judges say {label}, where {rules.panel.agree} must"
