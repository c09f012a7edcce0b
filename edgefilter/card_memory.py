"""Device memory."""
from edgefilter.plan import Plan
def card_memory(plan: Plan) -> dict[str, int]:
    return {}
