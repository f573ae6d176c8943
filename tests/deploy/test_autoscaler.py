"""What the autoscaler is told: its query, evaluated by promtool over what replicas may look like."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from checks.scaling import queries
from renderings import SITE_WITH_ALL

MINUTES = 10


@dataclass(frozen=True)
class Case:
    """Two replicas, and what is said of them: a number, or nothing where the number of replicas is to stay."""

    name: str
    told: float | None
    ages: tuple[float, float]
    # Seconds of each minute in which workers have a batch in hand.
    busy: tuple[int, int] = (58, 58)
    # Waits for locked rows in each minute.
    locks: int = 0
    second_has_its_database: bool = True


CASES = [
    Case("nobody is behind", 0.1, (0.1, 0.3), busy=(3, 4)),
    Case("a little behind and idle", 20, (20, 21), busy=(3, 4)),
    Case("busy and not behind", 5, (5, 7)),
    Case("all are behind and busy", 40, (40, 70)),
    Case("one is behind", 7, (7, 900)),
    Case("a locked flow lags in all", None, (900, 900), busy=(4, 5)),
    Case("a volume is slow", None, (40, 70), busy=(58, 20)),
    Case("the only batch hangs", None, (300, 300), busy=(0, 0)),
    Case("lanes wait for locked rows", None, (40, 70), locks=6),
    Case("a replica has lost the database", None, (40, 70), second_has_its_database=False),
    Case("a replica has lost the database and nobody is behind yet", None, (1, 2), second_has_its_database=False),
]


def series_of(case: Case) -> dict[str, str]:
    def of(metric: str, pod: str, more: str = "", namespace: str = "mqtt-gateway") -> str:
        return f'mqtt_gateway_{metric}{{namespace="{namespace}",instance="{pod}"{more}}}'

    worker, router, lock = ',actor="flow-worker-0"', ',actor="router"', ',kind="lock"'
    # Another installation, which is idle, behind on locked rows, and has lost its database.
    found = {
        of("inbox_oldest_uncommitted_age_seconds", "x", namespace="other"): f"0x{MINUTES}",
        of("actor_handle_seconds_sum", "x", worker, namespace="other"): f"0x{MINUTES}",
        of("database_errors_total", "x", lock, namespace="other"): f"0+9x{MINUTES}",
        of("database_up", "x", namespace="other"): f"0x{MINUTES}",
    }
    for index, pod in enumerate("ab"):
        is_up = index == 0 or case.second_has_its_database
        found |= {
            of("inbox_oldest_uncommitted_age_seconds", pod): f"{case.ages[index]}x{MINUTES}",
            of("actor_handle_seconds_sum", pod, worker): f"0+{case.busy[index]}x{MINUTES}",
            # Others have hardly anything to do.
            of("actor_handle_seconds_sum", pod, router): f"0+1x{MINUTES}",
            of("database_errors_total", pod, lock): f"5+{case.locks}x{MINUTES}",
            of("database_errors_total", pod, ',kind="deadlock"'): f"0+1x{MINUTES}",
            of("database_up", pod): f"{int(is_up)}x{MINUTES}",
        }
    return found


def promtool(query: str, cases: list[Case], directory: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("promtool") is None:
        pytest.skip("promtool (Debian: prometheus) is not installed: the query is not evaluated")
    tests = [
        {
            "name": case.name,
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series_of(case).items()],
            "promql_expr_test": [
                {
                    "expr": query,
                    "eval_time": f"{MINUTES}m",
                    "exp_samples": [] if case.told is None else [{"labels": "{}", "value": case.told}],
                }
            ],
        }
        for case in cases
    ]
    file = directory / "tests.yml"
    file.write_text(yaml.safe_dump({"tests": tests}))
    return subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_told_what_another_replica_would_help_with(case: Case, tmp_path: Path) -> None:
    (query,) = queries(SITE_WITH_ALL.documents())
    result = promtool(query, [case], tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("min(mqtt_gateway_inbox", "max(mqtt_gateway_inbox"),
        ("< 30", "< 3000"),
        ("< 30", "< 1"),
        ("min(avg", "max(avg"),
        ("> 0.8", "> 0"),
        ("> 0.8", "> 0.99"),
        (',actor=~"flow-worker-.*"', ""),
        (',kind="lock"', ""),
        ('kind="lock"}[5m])) > 0', 'kind="lock"}[5m])) > 1000'),
        ("min(min_over_time(mqtt_gateway_database_up", "max(min_over_time(mqtt_gateway_database_up"),
        ('namespace="mqtt-gateway"', 'namespace=~".*"'),
    ],
)
def test_a_query_that_is_told_something_else_is_seen(right: str, wrong: str, tmp_path: Path) -> None:
    (query,) = queries(SITE_WITH_ALL.documents())
    broken = query.replace(right, wrong)
    assert broken != query
    assert promtool(broken, CASES, tmp_path).returncode != 0
