"""The names that rules and dashboard may use."""

from __future__ import annotations

import re

from kustomize import ROOT

TABLE = ROOT / "docs/METRICS.md"

# MERGE: the table of docs/METRICS.md comes with another branch; to be removed, with its use below, once it is there.
PENDING = {
    "process_start_time_seconds": "gauge",
    **{f"mqtt_gateway_{name}": "gauge" for name in (
        "build_info ready flow_last_message_id actor_mailbox_depth actor_mailbox_capacity actor_message_age_seconds "
        "actor_state inbox_bytes inbox_max_bytes inbox_uncommitted_records inbox_oldest_uncommitted_age_seconds "
        "inbox_writable database_up broker_connected outbox_depth outbox_oldest_age_seconds"
    ).split()},
    **{f"mqtt_gateway_{name}_total": "counter" for name in (
        "flow_received flow_stored flow_posted flow_invalid actor_received actor_handled actor_failed actor_restarts "
        "inbox_appended database_errors broker_connections broker_connections_lost broker_connections_failed dead_letters"
    ).split()},
    **{f"mqtt_gateway_{name}": "histogram" for name in (
        "actor_wait_seconds actor_handle_seconds database_commit_seconds batch_messages batch_bytes"
    ).split()},
}


def known() -> dict[str, str]:
    """Each metric with its type."""
    if not TABLE.exists():
        return PENDING
    return dict(re.findall(r"^\| `(\w+)` \| (gauge|counter|histogram) \|", TABLE.read_text(), re.MULTILINE))


def series() -> set[str]:
    """What Prometheus stores of them."""
    kinds = known()
    parts = {f"{name}_{part}" for name, kind in kinds.items() if kind == "histogram" for part in ("bucket", "sum", "count")}
    return parts | {name for name, kind in kinds.items() if kind != "histogram"}


def used(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:mqtt_gateway_|process_)\w+", expression))
